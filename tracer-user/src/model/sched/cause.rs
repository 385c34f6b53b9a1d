//! Why a runnable goroutine does not run: the causes, and which of them holds at an instant.
//!
//! `docs/causes.md` is made from the documentation of [`Cause`]: the first paragraph of a variant says what holds, `Seen:`
//! how that is observed, `Means:` what it is a sign of, and `Try:` what to do about it.

/// What keeps a runnable goroutine from running at an instant.
///
/// The first seven are in order of precedence: four that belong to the goroutine or to the whole process, then three for
/// instants at which a P is idle. Where none is, the instant is shared out over the Ps between the next six: each P counts
/// as one part for what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cause {
    /// It gave way of its own will, by `runtime.Gosched`: that is not a latency, and is kept apart.
    ///
    /// Seen: it became runnable in `goschedImpl`, and `g.preempt` was not set.
    ///
    /// Means: the program yields, often in a loop that polls for something; while the collector sweeps, the runtime does
    /// so itself.
    ///
    /// Try: block on a channel, a mutex or a condition instead of polling.
    Yielded = 0,
    /// The world was being stopped, or stood still.
    ///
    /// Seen: from `stopTheWorldWithSema` until `startTheWorldWithSema` has given out the Ps again.
    ///
    /// Means: the garbage collector begins or ends a cycle, or something reads memory statistics, takes a profile, or
    /// sets GOMAXPROCS. A long stop waits for a goroutine that could not be interrupted: the last one to stop is named.
    ///
    /// Try: look at the stops below, and at the goroutine that stopped last; call runtime.ReadMemStats and goroutine
    /// profiles less often; allocate less, or raise GOGC or GOMEMLIMIT.
    Stw = 1,
    /// Threads of the program wanted a CPU, and the quota of its cgroup was used up.
    ///
    /// Seen: no thread with a P was on a CPU for a while, at least one could have run, and the cgroup of the program, or
    /// one above it, counted throttled time when that ended (`cpu.stat`).
    ///
    /// Means: the program used its CPU quota before the period was over. All its threads then stand still until the next
    /// period, 100 ms by default.
    ///
    /// Try: raise the CPU limit; or lower GOMAXPROCS to it, so that the quota is not used up in a fraction of the period
    /// (Go 1.25 and newer do so by default).
    CgroupThrottled = 2,
    /// It may only run on one thread (`runtime.LockOSThread`), and that one was not there yet.
    ///
    /// Seen: the scheduler had picked it, and handed its P to the thread that it is locked to (`startlockedm`).
    ///
    /// Means: each switch to and from a locked goroutine costs two switches of threads by the kernel.
    ///
    /// Try: lock only goroutines that need it, and let them hand over work in large pieces.
    LockedThread = 3,
    /// A P was idle, and a thread for it had been woken or was being made, but had no CPU yet.
    ///
    /// Seen: an idle P was promised to an M (`startm`), or an M that had just taken one could run and had no CPU.
    ///
    /// Means: it takes the kernel some microseconds to wake a thread; it takes longer where the CPUs are busy with other
    /// things, or sleep deeply.
    ///
    /// Try: where it is most of the waiting, and each wait is short: nothing, that is the price of idle Ps. Where waits are
    /// long, look for other load on these CPUs.
    ThreadWakeup = 4,
    /// A P was idle, and a thread on a CPU had it and looked for work.
    ///
    /// Seen: an M on a CPU had taken a P, and had run no goroutine with it yet; or a P was idle, and an M on a CPU was
    /// between two goroutines.
    ///
    /// Means: the goroutine was in a queue, and the thread had not found it yet, usually for less than a microsecond.
    ///
    /// Try: nothing, unless it is large; then report it, with a recording.
    Spinning = 5,
    /// A P was idle, and no thread was on the way to it.
    ///
    /// Seen: a P without an M, none promised, and none that looked for work.
    ///
    /// Means: the goroutine is in the queue of a P that is busy, and nobody was woken to take it; the runtime wakes one
    /// more thread only where no other looks for work already. Seen for moments only, unless threads cannot be made.
    ///
    /// Try: see whether the limit of threads (`pids.max`, RLIMIT_NPROC) is reached.
    NoThreadWoken = 6,
    /// A P ran another goroutine, on a CPU.
    ///
    /// Seen: an M of the P ran a goroutine, and its thread had a CPU: it had been seen to get one, or to hit a probe.
    ///
    /// Means: there is more to do than Ps to do it with. The culprits say who held them.
    ///
    /// Try: look at the culprits; raise GOMAXPROCS if there are more CPUs; split work that takes long.
    PBusy = 7,
    /// A P did the work of the garbage collector.
    ///
    /// Seen: it ran a worker of the collector, the sweeper or the scavenger, or a goroutine's assist (Go 1.21 and newer).
    ///
    /// Means: while it marks, the collector takes a quarter of the Ps, and what is idle.
    ///
    /// Try: allocate less; raise GOGC or GOMEMLIMIT, so that it runs less often.
    Gc = 8,
    /// A P had a thread that could run, and the kernel ran something else.
    ///
    /// Seen: an M of the P ran a goroutine or was about to, and its thread had no CPU, though it could have used one.
    ///
    /// Means: other processes, or more threads of this one than there are CPUs, use the CPUs; or the host of a virtual
    /// machine does.
    ///
    /// Try: look for other processes on these CPUs; set GOMAXPROCS to the CPUs that there really are; give the program a
    /// larger cpu.weight.
    OsPreempted = 9,
    /// A P belonged to a thread in a system call or in C, and had not been taken back yet.
    ///
    /// Seen: the goroutine on the P was in a system call; or, without `--syscalls`, its thread slept so that a signal
    /// could have woken it.
    ///
    /// Means: sysmon takes the P back after 20 µs to 10 ms, depending on how idle the program was.
    ///
    /// Try: use the network poller instead of blocking calls; avoid short blocking calls of C.
    PInSyscall = 10,
    /// A P belonged to a thread that slept, and not in a system call.
    ///
    /// Seen: its thread slept uninterruptibly, or slept between two goroutines; with `--syscalls`: it slept outside of any
    /// system call.
    ///
    /// Means: a page fault that reads from a disk or waits for memory, or a lock of the runtime. The P cannot be taken back
    /// meanwhile.
    ///
    /// Try: look at major page faults and memory pressure of its cgroup; avoid files that are mapped into memory where
    /// latency matters.
    ThreadBlocked = 11,
    /// A P was between two goroutines.
    ///
    /// Seen: an M on a CPU had the P, had run a goroutine with it, and had not begun the next one.
    ///
    /// Means: the scheduler itself took the time: looking through queues, timers and the network poller.
    ///
    /// Try: where it is a large share, goroutines do very little each time that they run: give them more at once.
    Scheduler = 12,
    /// The states of the Ps were not known.
    ///
    /// Seen: the capture had just begun, or transitions had been lost; for the share of one P: nothing was seen yet of the
    /// thread that had it.
    ///
    /// Means: nothing about the program.
    ///
    /// Try: where it is more than a few percent, use larger rings (`--ring`), or a longer window.
    Unknown = 13,
}

impl Cause {
    /// The number of causes.
    pub const COUNT: usize = 14;
    /// Every cause, in the order of precedence.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Yielded,
        Self::Stw,
        Self::CgroupThrottled,
        Self::LockedThread,
        Self::ThreadWakeup,
        Self::Spinning,
        Self::NoThreadWoken,
        Self::PBusy,
        Self::Gc,
        Self::OsPreempted,
        Self::PInSyscall,
        Self::ThreadBlocked,
        Self::Scheduler,
        Self::Unknown,
    ];

    /// The name in JSON, metrics and text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yielded => "yielded",
            Self::Stw => "stw",
            Self::CgroupThrottled => "cgroup_throttled",
            Self::LockedThread => "locked_thread",
            Self::ThreadWakeup => "thread_wakeup",
            Self::Spinning => "spinning",
            Self::NoThreadWoken => "no_thread_woken",
            Self::PBusy => "p_busy",
            Self::Gc => "gc",
            Self::OsPreempted => "os_preempted",
            Self::PInSyscall => "p_in_syscall",
            Self::ThreadBlocked => "thread_blocked",
            Self::Scheduler => "scheduler",
            Self::Unknown => "unknown",
        }
    }

    /// The cause as a clause of a sentence: "71 % all Ps busy".
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Yielded => "yielded of their own will",
            Self::Stw => "the world was stopped",
            Self::CgroupThrottled => "throttled by the cgroup's CPU quota",
            Self::LockedThread => "waiting for the thread they are locked to",
            Self::ThreadWakeup => "a thread was on its way to an idle P",
            Self::Spinning => "a thread was looking for work",
            Self::NoThreadWoken => "a P was idle and no thread was woken for it",
            Self::PBusy => "all Ps busy",
            Self::Gc => "Ps did the garbage collector's work",
            Self::OsPreempted => "the kernel ran something else",
            Self::PInSyscall => "Ps were held by threads in system calls",
            Self::ThreadBlocked => "threads slept while they held Ps",
            Self::Scheduler => "the scheduler was choosing the next goroutine",
            Self::Unknown => "not known",
        }
    }

    /// The cause with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }
}
