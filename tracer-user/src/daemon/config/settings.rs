//! The configuration as typed values, with the built-in defaults.

use std::{net::SocketAddr, time::Duration};

/// A configuration: the value of every setting, and the rules.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Config {
    /// `[http]`
    pub http: Http,
    /// `[discovery]`
    pub discovery: Discovery,
    /// `[tier]`
    pub tier: Tiers,
    /// `[budget]`
    pub budget: Budget,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[init]`
    pub init: Init,
    /// `[[target]]`: the first rule that matches a process decides about it. A process that no rule matches is watched
    /// as `tier.highest` says.
    pub target: Vec<TargetRule>,
}

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// `http.listen`: address and port; a socket that systemd hands over comes first.
    pub listen: SocketAddr,
    /// `http.max_connections`: one more takes the place of the one that has waited the longest.
    pub max_connections: u32,
    /// `http.timeout`: from accept to the end of the answer.
    pub timeout: Duration,
    /// `http.hosts`: names that a Host header may have, beside IP addresses, `localhost` and the machine's own name.
    pub hosts: Vec<String>,
}

/// How processes are found.
#[derive(Clone, Debug, PartialEq)]
pub struct Discovery {
    /// `discovery.interval`: how often /proc is scanned, for what the kernel's events did not report.
    pub interval: Duration,
    /// `discovery.settle`: how old a process must be before its binary is inspected.
    pub settle: Duration,
    /// `discovery.max_targets`: processes that are watched at once; more are counted, not watched.
    pub max_targets: u32,
}

/// How processes are watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiers {
    /// `tier.highest`: the highest tier of processes for which no rule says another.
    pub highest: Tier,
    /// `tier.passive_interval`: how often the memory of the Go runtime is read.
    pub passive_interval: Duration,
    /// `tier.probe_interval`: how often the kernel's tables of probed processes are read.
    pub probe_interval: Duration,
}

/// What a process is watched with, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// It is not watched.
    Off,
    /// Its memory is read; no probe.
    Passive,
    /// One probe hit per wait that its runtime samples, if that fits the budget.
    Sampled,
    /// Every wait, for a window of time; then `sampled`.
    Exact,
}

/// What watching may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// `budget.target`: share of a process's own CPU time (`"0.5%"`; 0.005 here).
    pub target: f64,
    /// `budget.target_floor`: CPU time per second that a process may always be charged, however idle it is.
    pub target_floor: Duration,
    /// `budget.host`: share of the CPU time of all CPUs of the host, for all processes together.
    pub host: f64,
}

/// Which series are exported.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// `metrics.creation_sites`: creation sites of one process that have series of their own; the others are
    /// one, `other`.
    pub creation_sites: u32,
}

/// Which starts are timed.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Init {
    /// `init.include`: paths of binaries, as processes see them, with `*` and `?`.
    pub include: Vec<String>,
    /// `init.whole_binary`: no start is held, and the binaries are probed in every process that maps them.
    pub whole_binary: bool,
}

/// One `[[target]]`. All conditions that are given must hold; patterns may have `*` and `?`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TargetRule {
    /// Path of the executable, as the process sees it.
    pub exe: Option<String>,
    /// Its name, as in /proc/PID/comm.
    pub comm: Option<String>,
    /// Path of its cgroup.
    pub cgroup: Option<String>,
    /// Id of its container.
    pub container: Option<String>,
    /// UID of its Kubernetes pod.
    pub pod: Option<String>,
    /// Effective user id.
    pub uid: Option<u32>,
    /// The highest tier; `off` excludes the process.
    pub tier: Option<Tier>,
    /// How long `exact` runs, after which it becomes `sampled`.
    pub window: Option<Duration>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9435)),
            max_connections: 64,
            timeout: Duration::from_secs(10),
            hosts: Vec::new(),
        }
    }
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            settle: Duration::from_millis(500),
            max_targets: 2_000,
        }
    }
}

impl Default for Tiers {
    fn default() -> Self {
        Self {
            highest: Tier::Passive,
            passive_interval: Duration::from_secs(10),
            probe_interval: Duration::from_secs(1),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            target: 0.005,
            target_floor: Duration::from_micros(200),
            host: 0.005,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { creation_sites: 20 }
    }
}

impl Tier {
    /// Every tier, the cheapest first.
    pub const ALL: [Self; 4] = [Self::Off, Self::Passive, Self::Sampled, Self::Exact];

    /// The name that settings, metrics and logs use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Passive => "passive",
            Self::Sampled => "sampled",
            Self::Exact => "exact",
        }
    }
}
