//! What the daemon knows at one moment, as plain data: what metrics and `/targets` show. Counts and histograms
//! only ever grow while a target is watched.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    daemon::config::{Metrics, Tier},
    escape::Untrusted,
    latency::Histogram,
    stream::{LossCause, Origin, Snapshot},
};

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct HostView {
    /// The Go processes that are watched, and those that could not be.
    pub targets: Vec<Arc<TargetView>>,
    /// Phases of starts, by binary (`init.include`).
    pub starts: BTreeMap<String, StartsView>,
    /// The daemon itself.
    pub daemon: DaemonView,
    /// Which series are exported, as the configuration in force says.
    pub metrics: Metrics,
    /// When the loop made this; `/healthz` is not healthy when that is too long ago.
    pub made: Option<Instant>,
}

/// Who a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Path of its executable, as it sees it.
    pub exe: Untrusted,
    /// Its name, as in /proc/PID/comm.
    pub comm: Untrusted,
    /// Its id, in our PID namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot: with the PID, its identity.
    pub start_time: u64,
    /// Effective user id.
    pub uid: u32,
    /// Id of its container, where its cgroup tells one.
    pub container: Option<String>,
    /// UID of its Kubernetes pod, where its cgroup tells one.
    pub pod: Option<String>,
}

/// One Go process.
#[derive(Clone, Debug)]
pub struct TargetView {
    /// Who.
    pub name: Name,
    /// `1.27.3`
    pub go_version: String,
    /// What it is watched with now.
    pub tier: Tier,
    /// The highest tier that rules allow it.
    pub allowed: Tier,
    /// Why it is not watched with more, in words; `None` where nothing stands in the way.
    pub why: Option<String>,
    /// The runtime's own histogram (`sched.timeToRun`), since we watch it.
    pub runtime_waits: Option<Histogram>,
    /// Waits of `sampled`, by the function with the `go` statement.
    pub sampled_waits: BTreeMap<String, Histogram>,
    /// Waits of `exact`.
    pub exact_waits: BTreeMap<Origin, Histogram>,
    /// The last reading of its gauges.
    pub gauges: Option<Snapshot>,
    /// CPUs that its cgroup may use, where there is a limit.
    pub cgroup_cpus: Option<f64>,
    /// What its cgroup was held back, where it says so.
    pub throttling: Option<Throttling>,
    /// CPU time of the process since it started.
    pub cpu: Duration,
    /// Probe hits, since we watch it.
    pub hits: u64,
    /// What they cost it, as estimated.
    pub cost: Duration,
    /// What was not seen.
    pub losses: BTreeMap<LossCause, u64>,
    /// Steps from a tier to another, with the number of them.
    pub steps: BTreeMap<(Tier, Tier), u64>,
}

/// `cpu.stat` of a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which something ran.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// Time held back.
    pub throttled: Duration,
}

/// Starts of one binary.
#[derive(Clone, Debug, Default)]
pub struct StartsView {
    /// Starts that came to `main.main`.
    pub completed: u64,
    /// Starts that ended before.
    pub failed: u64,
    /// Starts that were held for their probes, and went on without.
    pub missed: u64,
    /// Time of each phase, and of all together (`total`), in the order of the phases.
    pub phases: Vec<(String, Histogram)>,
}

/// The daemon itself.
#[derive(Clone, Debug, Default)]
pub struct DaemonView {
    /// CPU time that it has used.
    pub cpu: Duration,
    /// Its resident memory, in bytes.
    pub resident_bytes: u64,
    /// Its open file descriptors.
    pub open_fds: u64,
    /// Most file descriptors that it may have open.
    pub max_fds: Option<u64>,
    /// When it started.
    pub started_at: Option<jiff::Timestamp>,
    /// What one probe hit is estimated to cost here: [low, high], in nanoseconds.
    pub hit_ns: Option<[u64; 2]>,
    /// Errors since it started, by a short fixed name of their kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Processes that were seen and are not Go.
    pub not_go: u64,
    /// Go processes that rules leave alone.
    pub excluded: u64,
    /// Go processes beyond `discovery.max_targets`.
    pub beyond_limit: u64,
    /// Events of the kernel about processes that were lost; each was followed by a scan of /proc.
    pub lost_process_events: u64,
    /// Reloads of the configuration, by result (`ok`, `error`).
    pub reloads: BTreeMap<&'static str, u64>,
    /// When the configuration in force was loaded.
    pub config_loaded_at: Option<jiff::Timestamp>,
    /// Whether the last reading of the configuration had no mistake.
    pub config_ok: Option<bool>,
    /// SHA-256 of the configuration in force, in hexadecimal digits.
    pub config_sha256: Option<String>,
}
