//! The page `/targets`: which processes are watched, at which tier, and why not at a higher one.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    daemon::{metrics, view::HostView},
    escape::Untrusted,
};

/// The document that `/targets` serves.
#[derive(Debug, Serialize)]
pub struct Targets<'a> {
    targets: Vec<Target<'a>>,
    /// Live processes that are not watched, by reason.
    passed_over: BTreeMap<&'static str, u64>,
    /// Live processes that could not be examined: whether they are Go is not known.
    unreadable: Vec<Unreadable<'a>>,
}

#[derive(Debug, Serialize)]
struct Unreadable<'a> {
    pid: u32,
    why: &'a str,
}

#[derive(Debug, Serialize)]
struct Target<'a> {
    pid: u32,
    exe: &'a Untrusted,
    comm: &'a Untrusted,
    /// In clock ticks since boot.
    start_time: u64,
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    go_version: &'a str,
    /// Whose layout of the runtime's structs it is read with, if not that of its own version.
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<&'a str>,
    tier: &'static str,
    allowed: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    /// What of its runtime is not read, and why.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    left_out: &'a [String],
    probe_hits: u64,
    probe_cost_ns: u128,
    cpu_ns: u128,
    losses: BTreeMap<&'static str, u64>,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    from: &'static str,
    to: &'static str,
    count: u64,
}

/// Makes the page from a view, by PID.
pub fn list(view: &HostView) -> Targets<'_> {
    let targets = metrics::targets(view).map(|target| Target {
        pid: target.name.pid,
        exe: &target.name.exe,
        comm: &target.name.comm,
        start_time: target.name.start_time,
        uid: target.name.uid,
        container: target.name.container.as_deref(),
        pod: target.name.pod.as_deref(),
        go_version: &target.go_version,
        layout: target.layout.as_deref(),
        tier: target.tier.name(),
        allowed: target.allowed.name(),
        why: target.why.as_deref(),
        left_out: &target.left_out,
        probe_hits: target.hits,
        probe_cost_ns: target.cost.as_nanos(),
        cpu_ns: target.cpu.as_nanos(),
        losses: target
            .losses
            .iter()
            .map(|(cause, count)| (cause.name(), *count))
            .collect(),
        steps: target
            .steps
            .iter()
            .map(|((from, to), count)| Step {
                from: from.name(),
                to: to.name(),
                count: *count,
            })
            .collect(),
    });
    let daemon = &view.daemon;
    Targets {
        targets: targets.collect(),
        passed_over: BTreeMap::from([
            ("not_go", daemon.not_go),
            ("excluded", daemon.excluded),
            ("beyond_limit", daemon.beyond_limit),
        ]),
        unreadable: daemon
            .unreadable
            .iter()
            .map(|(pid, why)| Unreadable { pid: *pid, why })
            .collect(),
    }
}
