//! What is observed of a process that starts.

pub use tracer_ebpf::start::Mark;

/// A moment between `execve` and `main.main`.
#[derive(Clone, Debug, PartialEq)]
pub struct StartMark {
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Whether it is the process's first thread: name and usage are only known for that one.
    pub main_thread: bool,
    /// The moment.
    pub mark: Mark,
    /// A number that belongs to the mark: Ps of [`Mark::ProcResizeBegin`], the P's id of [`Mark::PBound`], the binary
    /// of [`Mark::Executed`] (or one of [`tracer_ebpf::start::binary`]); otherwise 0.
    pub value: u64,
    /// A name that belongs to the mark: the package of [`Mark::InitBegin`], the function of [`Mark::GoStatement`].
    pub name: Option<String>,
    /// Usage of the main thread so far; absent where the kernel does not report it.
    pub usage: Option<Usage>,
}

/// Time off the CPU and page faults of a thread, up to a moment or in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How long it slept, waiting for something.
    pub asleep_ns: u64,
    /// How long it was runnable and got no CPU.
    pub waiting_ns: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
}

impl Usage {
    /// Returns the difference to an earlier moment.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            asleep_ns: self.asleep_ns.saturating_sub(earlier.asleep_ns),
            waiting_ns: self.waiting_ns.saturating_sub(earlier.waiting_ns),
            minor_faults: self.minor_faults.saturating_sub(earlier.minor_faults),
            major_faults: self.major_faults.saturating_sub(earlier.major_faults),
        }
    }

    /// Returns the time off the CPU, for whatever reason.
    pub fn off_cpu_ns(&self) -> u64 {
        self.asleep_ns.saturating_add(self.waiting_ns)
    }
}

/// A system call of a process that starts: a slow one, or a `connect`.
#[derive(Clone, Debug, PartialEq)]
pub struct StartCall {
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Whether it is the process's first thread.
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

/// How long a process was held in `execve` until its program was probed: time that we took, not the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartHeld {
    /// Process id.
    pub pid: u32,
    /// From when we learned of it to when it was released.
    pub held_ns: u64,
}
