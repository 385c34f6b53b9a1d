//! One capture, in the shape in which it is written as JSON: `gmpscope.capture/1`.
//!
//! Additive changes keep the number. Times are integers of nanoseconds and their names end in `_ns`;
//! wall-clock times are RFC 3339; a part that a mode cannot give is absent, never zero.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::escape::Untrusted;

pub use crate::document::full::Full;
pub use crate::document::init::Init;
pub use crate::findings::Finding;

/// Value of [`Capture::schema`].
pub const SCHEMA: &str = "gmpscope.capture/1";

/// One capture of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capture {
    /// [`SCHEMA`].
    pub schema: String,
    /// What was traced.
    pub target: TargetInfo,
    /// How.
    pub capture: CaptureInfo,
    /// Every wait that was seen; absent where starts alone were traced.
    #[serde(default, skip_serializing_if = "Hist::is_absent")]
    pub runnable_to_running: Hist,
    /// By how the goroutine became runnable: `exact`, `full`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_origin: BTreeMap<Untrusted, Hist>,
    /// By function of the `go` statement: `sampled`, `full`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_creation_site: BTreeMap<Untrusted, Hist>,
    /// How long goroutines waited, by the reason in the runtime's words: `full`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_wait_reason: BTreeMap<Untrusted, Hist>,
    /// Waits of at least `--slower`, the longest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow: Vec<Slow>,
    /// All waits of at least `--slower`, those that `slow` has no room for included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_summary: Option<SlowSummary>,
    /// How the program started: `run`, `attach --next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// Gauges of the runtime at the capture's end, from its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goroutines: Option<Goroutines>,
    /// The runtime's other gauges: run queues, Ps, Ms, GC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<serde_json::Value>,
    /// The scheduler, rebuilt from its transitions: `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Full>,
    /// What stood out, with its evidence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// What was traced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetInfo {
    /// Process id, as this process sees it.
    pub pid: u32,
    /// Path of the executable, as the target sees it.
    pub exe: Untrusted,
    /// `1.27.3`, with ` X:…` where experiments are on. Absent of a command that is no Go program and was followed.
    #[serde(default, skip_serializing_if = "Untrusted::is_empty")]
    pub go_version: Untrusted,
    /// `amd64` or `arm64`.
    pub arch: Untrusted,
    /// `exe` or `pie`.
    #[serde(default, skip_serializing_if = "Untrusted::is_empty")]
    pub build_mode: Untrusted,
    /// Whether it has no symbol table.
    pub stripped: bool,
    /// Whether it was linked with cgo; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgo: Option<bool>,
    /// Whether it was built with a profile; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgo: Option<bool>,
    /// `GOMAXPROCS` at the capture's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gomaxprocs: Option<u32>,
    /// CPUs that the target's cgroup may use; absent where unlimited or unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_cpu_limit: Option<f64>,
}

/// How it was captured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaptureInfo {
    /// `passive`, `sampled`, `exact`, `full`.
    pub mode: String,
    /// Why this mode, where `auto` chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_reason: Option<Untrusted>,
    /// Wall-clock time, RFC 3339.
    pub started_at: String,
    /// Length of the window.
    pub duration_ns: u64,
    /// Nothing was lost and the window was whole.
    pub complete: bool,
    /// `duration`, `signal`, `target_exit` or `target_exec`.
    pub ended_by: String,
    /// Waits in all histograms.
    pub events: u64,
    /// Waits that are missing from them.
    pub lost_events: u64,
    /// What was lost or not counted, by cause.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost_by_cause: BTreeMap<String, u64>,
    /// Who chose the sample, in `sampled` and `passive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// How the probes were held: `uprobe_multi` (one link) or `perf_events` (one for each instruction, slow to
    /// remove). Absent without probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_by: Option<String>,
    /// Times that a probe of ours stopped a thread of the target.
    pub probe_hits: u64,
    /// Cost of one hit in the target on this machine: [low, high].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_cost_ns: Option<[u64; 2]>,
    /// 1 + hits × cost ÷ CPU time of the target in the window, with the high cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead_ratio: Option<f64>,
    /// What the probes themselves add to each latency at the least (`exact`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_floor_ns: Option<u64>,
    /// Other captures of ours that ran on the same target meanwhile: their cost is in these figures.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub concurrent_captures: u64,
    /// Things that a reader of the figures should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Untrusted>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The sample's nature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// `runtime`: Go's own tracking chooses.
    pub by: String,
    /// One in so many, nominally.
    pub nominal: u32,
    /// Who measured the latencies: `runtime`, or our `probe` (up to Go 1.25, and where a profile made the
    /// compiler leave no other place).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_by: Option<String>,
    /// Whether each wait had the same chance. It had not: never scale a count by `nominal`.
    pub uniform: bool,
}

/// A histogram of waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hist {
    /// How many.
    pub count: u64,
    /// Median; percentiles are absent in an empty histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<u64>,
    /// 90th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_ns: Option<u64>,
    /// 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<u64>,
    /// 99.9th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p999_ns: Option<u64>,
    /// Width of a bucket relative to its lower bound.
    pub resolution: f64,
    /// Non-empty buckets, ascending: values in (the bucket before's `le_ns`, `le_ns`].
    pub buckets: Vec<Bucket>,
    /// Sum, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum_ns: Option<u64>,
    /// Smallest, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ns: Option<u64>,
    /// Largest, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ns: Option<u64>,
    /// Entries of the runtime's histogram that were no waits (Go ≤ 1.25).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded_zero: Option<u64>,
}

impl Hist {
    /// Whether it is none: every histogram that was made has a resolution.
    pub fn is_absent(&self) -> bool {
        self.resolution == 0.0
    }
}

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Largest value that it holds.
    pub le_ns: u64,
    /// How many values.
    pub count: u64,
}

/// How many slow waits there were, and how long; to three significant digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowSummary {
    /// How many.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// A slow wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    /// When it began to run: nanoseconds since the capture's start.
    pub at_ns: u64,
    /// How long it had waited.
    pub latency_ns: u64,
    /// Goroutine id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goid: Option<u64>,
    /// Function of its `go` statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_site: Option<Untrusted>,
    /// How it became runnable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Thread id of the M that ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Id of the P that it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<u32>,
}

/// Goroutines at the capture's end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Goroutines {
    /// Made during the window, where it was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    /// Ended during the window, where it was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exited: Option<u64>,
    /// Alive.
    pub live: u64,
    /// By state, in the runtime's words.
    pub by_state: BTreeMap<Untrusted, u64>,
    /// The walk over them was cut short and scaled up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}
