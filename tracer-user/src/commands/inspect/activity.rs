//! Describes a process, and what it does during a second without a probe.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::Found;
use crate::{
    clock::now_ns,
    document::inspection::{Activity, Process},
    error::{Error, Result},
    process::{Target, memory::ProcessMemory},
    sources::passive::PassiveSource,
    stream::{Kind, Observation},
};

/// How long a process is watched.
const WINDOW: Duration = Duration::from_secs(1);

/// Watches the target's process.
///
/// # Errors
/// It has ended, or may not be read.
pub(super) fn watch(target: &Target, found: &Found) -> Result<Process> {
    let process = target
        .process
        .as_ref()
        .ok_or_else(|| Error::failed("a file was to be watched like a process"))?;
    let pid = u32::try_from(process.pid())
        .map_err(|_| Error::failed(format!("the process has the impossible PID {}", process.pid())))?;
    let minor = target.facts.version.minor;
    let mut source = PassiveSource::new(
        ProcessMemory::new(pid),
        &found.globals,
        target.load_bias,
        found.layout.clone(),
        minor,
    )
    .with_clock(process.clock_offset());
    let activity = if source.scheme().is_some() {
        Some(observe(&mut source, process)?)
    } else {
        None
    };
    let snapshot = source.snapshot(now_ns())?;
    Ok(Process {
        pid,
        comm: process.comm().clone(),
        uid: process.uid(),
        in_container: process.in_other_mount_namespace(),
        gomaxprocs: snapshot.gomaxprocs,
        cgroup_cpu_limit: process.cgroup_cpu_limit(),
        goroutines: snapshot.allgs,
        plugins: Vec::new(),
        plugins_unknown: None,
        activity,
    })
}

fn observe(source: &mut PassiveSource<ProcessMemory>, process: &crate::process::Process) -> Result<Activity> {
    source.observe_waits(now_ns())?;
    let (began, cpu_before) = (Instant::now(), process.cpu_time_ns()?);
    thread::sleep(WINDOW);
    let seen = source.observe_waits(now_ns())?;
    let (window, cpu_after) = (began.elapsed(), process.cpu_time_ns()?);
    let (tracked_waits, excluded_zero) = waits(&seen);
    Ok(Activity {
        window_ns: u64::try_from(window.as_nanos()).unwrap_or(u64::MAX),
        cpu_ns: cpu_after.saturating_sub(cpu_before),
        tracked_waits,
        excluded_zero,
    })
}

/// Counts waits, and entries that are not waits.
fn waits(seen: &[Observation]) -> (u64, u64) {
    let mut sums = (0_u64, 0_u64);
    for observation in seen {
        if let Kind::HistogramDelta(delta) = &observation.kind {
            sums.0 = delta
                .counts
                .iter()
                .fold(sums.0, |sum, (_, count)| sum.saturating_add(*count));
            sums.1 = sums.1.saturating_add(delta.excluded_zero);
        }
    }
    sums
}
