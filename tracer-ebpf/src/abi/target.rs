//! Configuration and state of traced processes.

/// Configuration of the programs for one target. All offsets are in bytes; 0 if the layout of this Go version is not
/// known, except for `p_id`, which is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetConfig {
    /// Waits of at least this many nanoseconds go through the ring one by one; `u64::MAX` for none.
    pub slower_ns: u64,
    /// Run-time address of `runtime.sched.timeToRun`, for [`SiteKind::HistogramRecord`](super::SiteKind::HistogramRecord).
    pub time_to_run: u64,
    /// The hit cap: with more [`TargetState::hits`] than this the programs switch the target off; 0 for none.
    pub hit_limit: u64,
    /// How many nanoseconds the target's CLOCK_MONOTONIC is ahead of the host's, which is that of the programs: not 0
    /// in a time namespace. Added to a time of ours before it is compared with one that the target has taken.
    pub clock_offset_ns: i64,
    /// 0: the programs return at once, which stops a target's cost before its probes are gone.
    pub enabled: u32,
    /// `g.m`.
    pub g_m: u32,
    /// `g.trackingStamp` (Go 1.19: `g.runnableStamp`).
    pub g_tracking_stamp: u32,
    /// `g.gopc`; at most [`G_BLOCK`] - 8 past `g_tracking_stamp`.
    pub g_gopc: u32,
    /// `g.goid`.
    pub g_goid: u32,
    /// `g.preempt`, or 0 if not known: then nothing is reported as preempted.
    pub g_preempt: u32,
    /// `m.curg`.
    pub m_curg: u32,
    /// `m.p`.
    pub m_p: u32,
    /// `p.id`.
    pub p_id: u32,
    /// How many creation sites may have their own histograms.
    pub creation_sites: u32,
}

/// State of one target that all CPUs share, on its own cache line. The user side writes it before it attaches, and only
/// reads it from then on: it begins a new window by raising [`TargetConfig::hit_limit`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetState {
    /// Hits while the target was switched on and had a cap.
    pub hits: u64,
    /// Number of histograms of creation sites that were created.
    pub creation_sites: u64,
    /// When the process executed another program (CLOCK_MONOTONIC), which switched the target off; 0 if it has not.
    pub executed_ns: u64,
    /// The process, by the id that the map `SLOTS_BY_PID` has of it; 0 if it is not to be switched off by its execve.
    pub pid: u32,
    /// Zero.
    pub reserved: u32,
    /// How many more goroutines may keep their entry in `STAMPS` between their waits. CPUs that take the last ones at the
    /// same time leave it below zero.
    pub stamps_left: i64,
    /// Zero.
    pub unused: [u64; 3],
}

/// Bytes of the block from `g.trackingStamp` to `g.gopc`, which the sampled program reads by one helper call in place
/// of two.
pub const G_BLOCK: usize = 112;

const _: () = {
    assert!(core::mem::size_of::<TargetConfig>() == 72);
    assert!(core::mem::size_of::<TargetState>() == 64);
};
