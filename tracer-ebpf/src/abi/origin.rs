//! How a goroutine became runnable.

/// How a goroutine became runnable. The numbers are indexes into `EXACT_HISTOGRAMS`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// `newproc1`: a `go` statement.
    Created = 0,
    /// `ready` and the few places that do the same: what it waited for has happened.
    Unblocked = 1,
    /// `goschedImpl`, `goyield_m`: it gave up its P by itself.
    Yielded = 2,
    /// `goschedImpl` with `g.preempt` set: the scheduler took its P away.
    Preempted = 3,
    /// `exitsyscall0`, `exitsyscallNoP`: it returned from a system call and found no P.
    Syscall = 4,
    /// `injectglist`, and `findRunnable` after `netpoll`: the network poller found it ready.
    Netpoll = 5,
}

impl Origin {
    /// Every origin, in the order of its number.
    pub const ALL: [Origin; 6] = [
        Origin::Created,
        Origin::Unblocked,
        Origin::Yielded,
        Origin::Preempted,
        Origin::Syscall,
        Origin::Netpoll,
    ];
    /// Number of origins.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// The name in JSON and text.
    pub const fn name(self) -> &'static str {
        match self {
            Origin::Created => "created",
            Origin::Unblocked => "unblocked",
            Origin::Yielded => "yielded",
            Origin::Preempted => "preempted",
            Origin::Syscall => "syscall",
            Origin::Netpoll => "netpoll",
        }
    }

    /// The origin with this number.
    pub fn from_u8(n: u8) -> Option<Self> {
        Self::ALL.get(n as usize).copied()
    }
}
