//! The ABI of what is told of a whole host: processes that come and go, and targets that were switched off.

/// Bytes of the ring buffer that carries [`HostEvent`]s: ten thousand of them.
pub const HOST_RING_BYTES: u32 = 1 << 18;

/// What the programs must know. Offsets are in bytes within the kernel's structs, 0 where they are not known.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// Device and inode of gmpscope's own PID namespace (`stat` of `/proc/self/ns/pid`): only processes that have
    /// an id there are told of, by that id.
    pub pidns_device: u64,
    /// See [`Self::pidns_device`].
    pub pidns_inode: u64,
    /// Bytes that must lie in the ring before a process's event wakes the reader.
    pub wake_at: u64,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `signal_struct.live`: threads of the process that have not ended. Where it is not known, a process is told
    /// to end when its first thread does.
    pub signal_live: u32,
}

/// What a [`HostEvent`] is.
pub mod host_event {
    /// A process has become another program.
    pub const EXEC: u32 = 0;
    /// The last thread of a process ends. Told twice where the last two end at the same moment.
    pub const EXIT: u32 = 1;
    /// A target is past its hit cap and was switched off. Told more than once where CPUs find out at the same
    /// moment.
    pub const CAPPED: u32 = 2;
}

/// Something that the user side is told.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostEvent {
    /// When, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// A process in gmpscope's own PID namespace; of [`host_event::CAPPED`] the target's index.
    pub subject: u32,
    /// One of [`host_event`].
    pub kind: u32,
}

/// What did not fit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Events of processes that found no room in the ring.
    pub processes_lost: u64,
}

const _: () = {
    assert!(core::mem::size_of::<HostConfig>() == 32);
    assert!(core::mem::size_of::<HostEvent>() == 16);
    assert!(core::mem::size_of::<HostCounters>() == 8);
};
