//! What is seen of a process that starts.

pub use tracer_ebpf::start::Mark;

/// A moment between `execve` and `main.main`.
#[derive(Clone, Debug, PartialEq)]
pub struct StartMark {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Whether it is the process's first thread: what follows is only known of that one.
    pub main_thread: bool,
    /// Which moment.
    pub mark: Mark,
    /// A number that belongs to it: Ps of [`Mark::ProcResizeBegin`], the P's id of [`Mark::PBound`], the binary of
    /// [`Mark::Executed`] (or one of [`tracer_ebpf::start::binary`]); else 0.
    pub value: u64,
    /// A name that belongs to it: the package of [`Mark::InitBegin`], the function of [`Mark::GoStatement`].
    pub name: Option<String>,
    /// What the main thread has gone through so far; absent where the kernel does not tell.
    pub usage: Option<Usage>,
}

/// What a thread has gone through up to a moment, or in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How long it slept, waiting for something.
    pub asleep_ns: u64,
    /// How long it could have run and got no CPU.
    pub waiting_ns: u64,
    /// Page faults that needed no I/O.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
}

impl Usage {
    /// What has come since an earlier moment.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            asleep_ns: self.asleep_ns.saturating_sub(earlier.asleep_ns),
            waiting_ns: self.waiting_ns.saturating_sub(earlier.waiting_ns),
            minor_faults: self.minor_faults.saturating_sub(earlier.minor_faults),
            major_faults: self.major_faults.saturating_sub(earlier.major_faults),
        }
    }

    /// Time off the CPU, for whatever reason.
    pub fn off_cpu_ns(&self) -> u64 {
        self.asleep_ns.saturating_add(self.waiting_ns)
    }
}

/// A system call of a process that starts: a slow one, or a `connect`.
#[derive(Clone, Debug, PartialEq)]
pub struct StartCall {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Whether that is the process's first.
    pub main_thread: bool,
    /// Its name.
    pub name: String,
    /// The path or address that it works on, where known.
    pub on: Option<String>,
    /// How long it took, or has taken so far.
    pub duration_ns: u64,
    /// What it returned, a negated errno where it failed; `None` while it has not returned.
    pub result: Option<i64>,
}

/// How long a process was held in `execve` until its program was probed: time that is ours, not the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartHeld {
    /// Process.
    pub pid: u32,
    /// From when we knew of it to when we let it go.
    pub held_ns: u64,
}
