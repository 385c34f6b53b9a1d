//! What a P does at an instant, as far as it keeps goroutines from running.

/// What a P does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// It does not count: it is not one of GOMAXPROCS.
    #[default]
    Gone = 0,
    /// No M has it, and none was promised it.
    Idle = 1,
    /// An M was promised it, or has taken it and has no CPU yet.
    Waking = 2,
    /// An M on a CPU has taken it, and has run no goroutine with it yet.
    Spinning = 3,
    /// It runs a goroutine, on a CPU.
    Busy = 4,
    /// It runs the collector's work, on a CPU.
    Gc = 5,
    /// Its thread could run, and has no CPU.
    OsPreempted = 6,
    /// Its thread is in a system call.
    InSyscall = 7,
    /// Its thread sleeps, and not in a system call.
    Blocked = 8,
    /// It is between two goroutines.
    Scheduler = 9,
    /// Its thread is on a CPU, in a system call.
    InSyscallOnCpu = 10,
    /// An M has it, and it is not known whether the thread of that M has a CPU.
    Unknown = 11,
}

impl Class {
    /// The number of classes.
    pub const COUNT: usize = 12;
}
