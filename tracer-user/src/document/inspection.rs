//! What a binary or process is and which modes can trace it: the JSON of `inspect`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::escape::Untrusted;
use crate::plan::{Attempt, Emulation, Mode};

/// Value of [`Inspection::schema`].
pub const SCHEMA: &str = "gmpscope.inspection/1";

/// The result of `inspect`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The program's file.
    pub binary: Binary,
    /// The process, if one was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Where the offsets of the runtime's fields come from.
    pub layouts: Layouts,
    /// Variables of the runtime: link-time address in hexadecimal, or null where it could not be found.
    pub globals: BTreeMap<&'static str, Option<String>>,
    /// Whether the process's memory confirms each of them: `confirmed`, or what contradicts it. A variable that is
    /// refuted counts as not found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub globals_in_memory: Option<BTreeMap<&'static str, String>>,
    /// The modes, the cheapest first.
    pub modes: Vec<ModePlan>,
}

/// A program's file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Binary {
    /// Its path.
    pub path: Untrusted,
    /// Size in bytes.
    pub size: u64,
    /// The version as in the binary, without the leading `go`.
    pub go_version: Untrusted,
    /// `amd64` or `arm64`.
    pub arch: &'static str,
    /// `exe` or `pie`.
    pub build_mode: &'static str,
    /// Whether it has no symbol table.
    pub stripped: bool,
    /// Whether it was linked with cgo.
    pub cgo: bool,
    /// Whether it was built with a profile.
    pub pgo: bool,
    /// Whether a C linker has linked it.
    pub external_linking: bool,
    /// Whether it needs the dynamic loader.
    pub dynamic: bool,
    /// Import path of its main package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_path: Option<Untrusted>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Process {
    /// Process id in our PID namespace.
    pub pid: u32,
    /// Its name.
    pub comm: Untrusted,
    /// The user that it runs as.
    pub uid: u32,
    /// Whether it is in another mount namespace, as in a container.
    pub in_container: bool,
    /// `GOMAXPROCS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gomaxprocs: Option<u32>,
    /// CPUs that its cgroup may use; absent where unlimited or unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_cpu_limit: Option<f64>,
    /// `allglen`: the most goroutines that it ever had at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goroutines: Option<u64>,
    /// Plugins that it has loaded, each with its own copy of the scheduler's functions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginInfo>,
    /// Why it is not known whether it has loaded plugins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugins_unknown: Option<Untrusted>,
    /// What it did while it was watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
}

/// A plugin in a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginInfo {
    /// Path of its file.
    pub path: Untrusted,
    /// How many of its instructions would be probed besides those of the program, by mode.
    pub sites: BTreeMap<&'static str, usize>,
    /// Why it would not be probed, so that a capture in that mode is incomplete; by mode.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub problems: BTreeMap<&'static str, Untrusted>,
}

/// What a process did while it was watched, without a probe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Activity {
    /// How long it was watched.
    pub window_ns: u64,
    /// CPU time that it used.
    pub cpu_ns: u64,
    /// Waits that the runtime itself counted: about one in eight.
    pub tracked_waits: u64,
    /// Entries of the runtime's histogram that are not waits.
    pub excluded_zero: u64,
}

/// Source of the layouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layouts {
    /// Where the layout is from: the table or the binary itself; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Why there is none, and the consequences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// For a file: the releases whose layout it may have, the likeliest first. That of one is used in a process whose
    /// memory confirms it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
}

/// What one mode would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModePlan {
    /// The mode.
    pub mode: Mode,
    /// Whether it is possible for this target on this machine.
    pub possible: bool,
    /// Whether it will be possible in a process whose memory confirms one of [`Layouts::candidates`]: only for a file,
    /// and absent where that makes no difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub possible_once_confirmed: Option<bool>,
    /// Why it is not possible; empty if it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<String>,
    /// Attempts that failed to find the instructions to probe.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Attempt>,
    /// Probe hits per scheduling cycle (a goroutine becoming runnable, running and stopping).
    pub hits_per_cycle: f64,
    /// Cost for the target per cycle: [low, high].
    pub cost_per_cycle_ns: [u64; 2],
    /// The expected cost for the process as it is running now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// Instructions that would be probed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<SiteInfo>,
}

/// A forecast from the passive counters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Probe hits per second: [low, high].
    pub hits_per_second: [f64; 2],
    /// Their cost, in CPU seconds per second: [low, high].
    pub cpu: [f64; 2],
    /// Their cost relative to the CPU time that the process uses: [low, high]; absent where it uses none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ratio: Option<[f64; 2]>,
}

/// An instruction that would be probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteInfo {
    /// The function that contains it.
    pub function: Untrusted,
    /// Bytes from the function's entry.
    pub offset: u64,
    /// Its disassembly.
    pub instruction: String,
    /// How the kernel executes it.
    pub emulation: Emulation,
    /// What a hit means: `runnable: ORIGIN` where a goroutine becomes runnable, otherwise what ends there.
    pub meaning: String,
}
