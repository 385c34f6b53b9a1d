//! Slow waits, which are sent one by one.

/// The event of the ring buffer for a wait of at least [`TargetConfig::slower_ns`](super::TargetConfig::slower_ns).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlowWait {
    /// When the goroutine began to run, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// How long it had been runnable.
    pub latency_ns: u64,
    /// Address of its g.
    pub g: u64,
    /// Its goid, or 0 where it could not be read.
    pub goid: u64,
    /// Its `g.gopc`, or 0.
    pub gopc: u64,
    /// Thread that began to run it (an M), in the initial PID namespace.
    pub tid: u32,
    /// Id of the P that it ran on, or -1.
    pub p: i32,
    /// Index of the target.
    pub target: u32,
    /// An [`Origin`](super::Origin), or 0xff if the mode does not know it.
    pub origin: u32,
}

const _: () = assert!(core::mem::size_of::<SlowWait>() == 56);
