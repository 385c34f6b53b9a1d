//! What a sample shows of the scheduler: what every P does and has queued, and who holds it.

/// `_Pidle`.
pub(super) const P_IDLE: u32 = 0;
/// `_Prunning`.
const P_RUNNING: u32 = 1;
/// `_Psyscall`; from Go 1.26 on no P is in it.
const P_SYSCALL: u32 = 2;

/// What was read of the scheduler at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Goroutines in all run queues.
    pub runnable: u64,
    /// `sched.gcwaiting`: the world is being stopped, or is.
    pub stopping: bool,
    /// `sched.npidle`: Ps in the list of idle ones.
    pub listed_idle: u32,
    /// `sched.nmspinning`.
    pub spinning: u32,
    /// Every P of `allp`.
    pub ps: Vec<P>,
}

/// A P.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct P {
    /// Its address.
    pub p: u64,
    /// Its status.
    pub status: u32,
    /// Address of its m, or 0.
    pub m: u64,
    /// `p.schedtick`.
    pub schedtick: u32,
}

/// An M that holds a P, and what it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// The id of its thread, in the target's PID namespace.
    pub thread: u64,
    /// The status of the goroutine that it runs, without the scan bit; `None` where it runs none, or parks one. Of one
    /// that waits: it waits for a reason for which it keeps running.
    pub goroutine: Option<u8>,
    /// Whether a worker of the collector runs on its P (`p.gcMarkWorkerMode`).
    pub marks: bool,
}

impl State {
    /// Ps without an M, whether in the list of idle ones or promised to an M that is on its way.
    pub(super) fn idle(&self) -> usize {
        self.ps.iter().filter(|p| p.status == P_IDLE).count()
    }

    /// Ps that belong to a thread in a system call (up to Go 1.25).
    pub(super) fn in_syscall(&self) -> usize {
        self.ps.iter().filter(|p| p.status == P_SYSCALL).count()
    }

    /// Ps that an M holds.
    pub(super) fn held(&self) -> impl Iterator<Item = &P> + Clone {
        self.ps.iter().filter(|p| p.status == P_RUNNING && p.m != 0)
    }
}
