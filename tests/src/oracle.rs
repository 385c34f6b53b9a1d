//! The waits and changes that `runtime/trace` of the same run has recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::environment::{cache, package};
use crate::toolchain::{self, run};

/// The waits of a trace (tests/oracles/schedwaits).
#[derive(Clone, Debug, Deserialize)]
pub struct Waits {
    /// How many ended in the window.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// How the goroutine had become runnable: `created`, `unblocked`, `yielded`, `preempted`, `syscall`.
    pub by_cause: BTreeMap<String, u64>,
    /// The waits that were left out, by reason.
    pub excluded: BTreeMap<String, u64>,
    /// The latency of each wait, ascending.
    pub latencies_ns: Vec<u64>,
    /// Those of them that ended a system call within 5 µs: it may have got a P at once without ever being Runnable,
    /// which the file does not show.
    pub ambiguous_ns: Vec<u64>,
    /// Each wait: goid, runnable at, running at (CLOCK_MONOTONIC), cause. Only if asked for.
    #[serde(default)]
    pub waits: Vec<(u64, u64, u64, String)>,
}

impl Waits {
    /// Removes ambiguous waits, as many as this side has more ends of system calls than the other side, which has
    /// `syscalls`.
    pub fn without_artefacts(&self, syscalls: u64) -> Self {
        let mut rest = self.clone();
        let here = self.by_cause.get("syscall").copied().unwrap_or(0);
        let surplus = usize::try_from(here.saturating_sub(syscalls)).unwrap_or(usize::MAX);
        for latency in self.ambiguous_ns.iter().take(surplus) {
            if let Ok(at) = rest.latencies_ns.binary_search(latency) {
                rest.latencies_ns.remove(at);
                rest.count -= 1;
                *rest.excluded.entry("ambiguous".to_owned()).or_default() += 1;
            }
        }
        rest
    }

    /// The smallest latency that at least the share q of all do not exceed; 0 where there are none.
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = (q.clamp(0.0, 1.0) * self.latencies_ns.len() as f64).ceil() as usize;
        self.latencies_ns
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or(0)
    }
}

/// Reads a trace file: the waits that ended between two moments of CLOCK_MONOTONIC.
pub fn waits(trace: &Path, from_ns: u64, to_ns: u64, list: bool) -> Result<Waits> {
    let mut c = Command::new(reader("schedwaits")?);
    c.args(["-from", &from_ns.to_string(), "-to", &to_ns.to_string()]);
    if list {
        c.arg("-list");
    }
    let out = run(c.arg(trace))?;
    serde_json::from_slice(&out).context("the oracle's output")
}

/// Reads a trace file: every change of a goroutine's state between two moments of CLOCK_MONOTONIC, one per line
/// (tests/oracles/schedchanges).
pub fn changes(trace: &Path, from_ns: u64, to_ns: u64) -> Result<String> {
    let mut c = Command::new(reader("schedchanges")?);
    c.args(["-from", &from_ns.to_string(), "-to", &to_ns.to_string()]);
    let out = run(c.arg(trace))?;
    String::from_utf8(out).context("the oracle's output")
}

/// Builds a reader with the newest toolchain, which reads the files of all older ones from Go 1.22 on.
fn reader(name: &str) -> Result<PathBuf> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one = BUILDING.lock();
    let toolchain = toolchain::newest()?;
    let source = package().join("oracles").join(name).join("main.go");
    let dir = cache()?.join("oracles").join(toolchain.version());
    std::fs::create_dir_all(&dir)?;
    let overlay = dir.join(format!("{name}.json"));
    let inside = toolchain.root.join("src/cmd").join(name).join("main.go");
    let replace = BTreeMap::from([(inside.display().to_string(), source.display().to_string())]);
    let scratch = tempfile::NamedTempFile::new_in(&dir)?;
    std::fs::write(
        scratch.path(),
        serde_json::to_vec(&serde_json::json!({ "Replace": replace }))?,
    )?;
    scratch.persist(&overlay)?;
    let binary = dir.join(name);
    // Go's own cache makes this quick when nothing has changed.
    let mut go = toolchain.go();
    go.current_dir(toolchain.root.join("src/cmd"))
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", "0");
    run(go
        .arg("build")
        .arg("-overlay")
        .arg(&overlay)
        .arg("-o")
        .arg(&binary)
        .arg(format!("./{name}")))
    .context("building the reader of runtime/trace")?;
    Ok(binary)
}
