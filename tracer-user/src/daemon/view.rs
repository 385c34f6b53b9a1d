//! A snapshot of what the daemon knows, as plain data: what metrics and `/targets` show. Counts and histograms only
//! ever grow while a target is watched.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    daemon::config::{Metrics, Tier},
    escape::Untrusted,
    latency::Histogram,
    model::sched::Cause,
    stream::{LossCause, Origin, Snapshot, causes::CauseSamples},
};

/// The snapshot.
#[derive(Clone, Debug, Default)]
pub struct HostView {
    /// The Go processes that are watched, and those that cannot be.
    pub targets: Vec<Arc<TargetView>>,
    /// Phases of starts, by binary (`init.include`).
    pub starts: BTreeMap<String, StartsView>,
    /// The daemon itself.
    pub daemon: DaemonView,
    /// Which series are exported, as the configuration in force says.
    pub metrics: Metrics,
    /// When the loop made this; `/healthz` fails when that is too long ago.
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
    /// Id of its container, if its cgroup names one.
    pub container: Option<String>,
    /// UID of its Kubernetes pod, if its cgroup names one.
    pub pod: Option<String>,
}

/// One Go process.
#[derive(Clone, Debug)]
pub struct TargetView {
    /// Which process it is.
    pub name: Name,
    /// The Go release, such as `1.27.3`.
    pub go_version: String,
    /// That the layout of the runtime's structs is another release's, which its memory does not contradict; `None` if
    /// it is that of its own version.
    pub layout: Option<String>,
    /// What it is watched with now.
    pub tier: Tier,
    /// The highest tier that rules allow it.
    pub allowed: Tier,
    /// Why it is not watched at a higher tier, as a sentence; `None` if nothing prevents it.
    pub why: Option<String>,
    /// Variables of its runtime that are not read, since its memory is not as it should be there.
    pub left_out: Vec<String>,
    /// The runtime's own histogram (`sched.timeToRun`), since it is watched.
    pub runtime_waits: Option<Histogram>,
    /// Waits of `sampled`, by the function with the `go` statement.
    pub sampled_waits: BTreeMap<String, Histogram>,
    /// Waits of `exact`.
    pub exact_waits: BTreeMap<Origin, Histogram>,
    /// How long goroutines waited to run, and why, since it is watched; `None` if that was not sampled.
    pub runnable: Option<RunnableTime>,
    /// The last reading of its gauges.
    pub gauges: Option<Snapshot>,
    /// CPUs that its cgroup may use, if there is a limit.
    pub cgroup_cpus: Option<f64>,
    /// How its cgroup was throttled, where the kernel counts that.
    pub throttling: Option<Throttling>,
    /// CPU time of the process since it started.
    pub cpu: Duration,
    /// Probe hits since it is watched.
    pub hits: u64,
    /// The estimated cost of these hits.
    pub cost: Duration,
    /// What was lost, by cause.
    pub losses: BTreeMap<LossCause, u64>,
    /// How often its tier changed, by (from, to).
    pub steps: BTreeMap<(Tier, Tier), u64>,
}

/// How long goroutines could run and did not, estimated from samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunnableTime {
    /// Σ goroutines × time, in nanoseconds, by cause; only those that were seen.
    pub by_cause_ns: BTreeMap<Cause, u64>,
    /// The time in which there was at least one, in nanoseconds.
    pub some_ns: u64,
}

impl RunnableTime {
    /// Adds samples.
    pub fn add(&mut self, seen: &CauseSamples) {
        self.some_ns = self.some_ns.saturating_add(seen.some_ns);
        for (number, ns) in &seen.by_cause {
            let cause = Cause::ALL.get(usize::from(*number)).copied();
            let sum = self
                .by_cause_ns
                .entry(cause.unwrap_or(Cause::Unknown))
                .or_default();
            *sum = sum.saturating_add(*ns);
        }
    }
}

/// `cpu.stat` of a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which something of the cgroup ran.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time for which it was throttled.
    pub throttled: Duration,
}

/// The starts of one binary.
#[derive(Clone, Debug, Default)]
pub struct StartsView {
    /// Starts that reached `main.main`.
    pub completed: u64,
    /// Starts that ended before they reached it.
    pub failed: u64,
    /// Starts that were held for their probes, and continued without them.
    pub missed: u64,
    /// Times of each phase, and of the whole start (`total`), in the order of the phases.
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
    /// How many file descriptors it may have open.
    pub max_fds: Option<u64>,
    /// When it started.
    pub started_at: Option<jiff::Timestamp>,
    /// The estimated cost of a probe hit on this machine: [low, high], in nanoseconds.
    pub hit_ns: Option<[u64; 2]>,
    /// Errors since it started, by kind (a short fixed name).
    pub errors: BTreeMap<&'static str, u64>,
    /// Live processes that are not Go.
    pub not_go: u64,
    /// Go processes that a rule excludes.
    pub excluded: u64,
    /// Go processes beyond `discovery.max_targets`.
    pub beyond_limit: u64,
    /// Processes that could not be examined, by PID, and why.
    pub unreadable: Arc<BTreeMap<u32, String>>,
    /// Lost kernel events about processes; after each loss /proc was scanned.
    pub lost_process_events: u64,
    /// Reloads of the configuration, by result (`ok`, `error`).
    pub reloads: BTreeMap<&'static str, u64>,
    /// When the configuration in force was loaded.
    pub config_loaded_at: Option<jiff::Timestamp>,
    /// Whether the configuration had no mistake when it was last read.
    pub config_ok: Option<bool>,
    /// SHA-256 of the configuration in force, in hexadecimal digits.
    pub config_sha256: Option<String>,
}
