//! The runtime's own figures at the end of a capture, read from its memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::escape::Untrusted;
use crate::model::Model;
use crate::stream::Snapshot;

/// Goroutines at the capture's end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Goroutines {
    /// Created during the window, if that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    /// Ended during the window, if that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exited: Option<u64>,
    /// Alive at the end.
    pub live: u64,
    /// By the runtime's name of their state.
    pub by_state: BTreeMap<Untrusted, u64>,
    /// Whether only a part of them was read, and the counts were scaled up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

impl Goroutines {
    /// Takes the goroutines of the last snapshot; `churn` are those that were made and those that ended during the
    /// window.
    pub fn of(model: &Model, churn: Option<(u64, u64)>) -> Option<Self> {
        let live = model.live()?;
        let last = model.last()?;
        Some(Self {
            created: churn.map(|(created, _)| created),
            exited: churn.map(|(_, exited)| exited),
            live,
            by_state: by_state(&last.goroutines_by_state),
            estimated: last.goroutines_sampled,
        })
    }
}

/// The runtime's other gauges: run queues, Ps, Ms, GC. Each is absent where the layout of the runtime's structs does
/// not contain it. In the order of the names, which is that of the JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerGauges {
    /// As [`Snapshot::allgs`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allgs: Option<u64>,
    /// As [`Snapshot::gc_waiting`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gc_waiting: Option<bool>,
    /// As [`Snapshot::global_runq`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_runq: Option<u64>,
    /// As [`Snapshot::gomaxprocs`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gomaxprocs: Option<u32>,
    /// As [`Snapshot::idle_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u32>,
    /// As [`Snapshot::idle_ps`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ps: Option<u32>,
    /// As [`Snapshot::local_runqs`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_runqs: Vec<u32>,
    /// As [`Snapshot::ps_by_state`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ps_by_state: BTreeMap<Untrusted, u64>,
    /// As [`Snapshot::since_last_poll_ns`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_last_poll_ns: Option<u64>,
    /// As [`Snapshot::spinning_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spinning_ms: Option<u32>,
    /// As [`Snapshot::stw_pauses`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stw_pauses: Option<ByPurpose>,
    /// As [`Snapshot::stw_total_ns`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stw_total_ns: Option<ByPurpose>,
    /// As [`Snapshot::sysmon_waiting`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sysmon_waiting: Option<bool>,
}

/// A figure of stop-the-world pauses, by their purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByPurpose {
    /// Those of the garbage collector.
    pub gc: u64,
    /// All others.
    pub other: u64,
}

impl SchedulerGauges {
    /// Takes the gauges of a snapshot; `None` if it has none.
    pub fn of(snapshot: &Snapshot) -> Option<Self> {
        let by_purpose = |pair: Option<(u64, u64)>| pair.map(|(gc, other)| ByPurpose { gc, other });
        let gauges = Self {
            allgs: snapshot.allgs,
            gc_waiting: snapshot.gc_waiting,
            global_runq: snapshot.global_runq,
            gomaxprocs: snapshot.gomaxprocs,
            idle_ms: snapshot.idle_ms,
            idle_ps: snapshot.idle_ps,
            local_runqs: snapshot.local_runqs.clone(),
            ps_by_state: by_state(&snapshot.ps_by_state),
            since_last_poll_ns: snapshot.since_last_poll_ns,
            spinning_ms: snapshot.spinning_ms,
            stw_pauses: by_purpose(snapshot.stw_pauses),
            stw_total_ns: by_purpose(snapshot.stw_total_ns),
            sysmon_waiting: snapshot.sysmon_waiting,
        };
        (gauges != Self::default()).then_some(gauges)
    }
}

fn by_state(counts: &[(String, u64)]) -> BTreeMap<Untrusted, u64> {
    counts
        .iter()
        .map(|(state, count)| (state.as_str().into(), *count))
        .collect()
}
