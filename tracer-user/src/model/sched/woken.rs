//! Who made a goroutine runnable, as it is kept with each goroutine.

/// Who made a goroutine runnable, as a goroutine keeps it: 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WokenBy {
    /// The slot of a goroutine, or one of the numbers below.
    pub slot: u32,
    /// Which life of that slot's g it was.
    pub life: u32,
}

/// Not known, or nobody: no goroutine has this slot, nor one of the next three.
pub const NOBODY: u32 = u32::MAX;
/// The network poller.
pub const NETPOLL: u32 = u32::MAX - 1;
/// The scheduler, for a timer.
pub const SCHEDULER: u32 = u32::MAX - 2;
/// A thread without a P.
pub const WITHOUT_P: u32 = u32::MAX - 3;

impl Default for WokenBy {
    fn default() -> Self {
        Self::root(NOBODY)
    }
}

impl WokenBy {
    /// One of the numbers that stand for no goroutine.
    pub const fn root(slot: u32) -> Self {
        Self { slot, life: 0 }
    }
}
