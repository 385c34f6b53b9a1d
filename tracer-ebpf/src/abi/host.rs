//! The ABI of events of a whole host: processes that start and exit, and targets that were switched off.

/// Bytes of the ring buffer for [`HostEvent`]s: room for ten thousand.
pub const HOST_RING_BYTES: u32 = 1 << 18;

/// Configuration of the programs. Offsets are in bytes within the kernel's structs, 0 if they are not known.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// Device and inode of gmpscope's own PID namespace (`stat` of `/proc/self/ns/pid`): only processes that have an
    /// id there are reported, by that id.
    pub pidns_device: u64,
    /// See [`Self::pidns_device`].
    pub pidns_inode: u64,
    /// Bytes that must be in the ring before an event of a process wakes the reader.
    pub wake_at: u64,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `signal_struct.live`: threads of the process that have not ended. If it is not known, the end of a process's
    /// first thread is reported as that of the process.
    pub signal_live: u32,
    /// 1 if that namespace is the initial one, where each process has an id.
    pub pidns_is_initial: u32,
    /// Zero.
    pub reserved: u32,
}

/// Kinds of a [`HostEvent`].
pub mod host_event {
    /// A process has executed another program.
    pub const EXEC: u32 = 0;
    /// The last thread of a process ends. Sent twice if the last two end at the same moment.
    pub const EXIT: u32 = 1;
    /// A target is past its hit cap and was switched off. Sent several times if CPUs notice at the same moment.
    pub const CAPPED: u32 = 2;
}

/// An event for the user side.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostEvent {
    /// When, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// A process in gmpscope's own PID namespace; for [`host_event::CAPPED`] the target's index.
    pub subject: u32,
    /// One of [`host_event`].
    pub kind: u32,
}

/// Counters of events that did not fit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Events of processes that found no room in the ring.
    pub processes_lost: u64,
}

const _: () = {
    assert!(core::mem::size_of::<HostConfig>() == 40);
    assert!(core::mem::size_of::<HostEvent>() == 16);
    assert!(core::mem::size_of::<HostCounters>() == 8);
};
