//! The runtime's own figures at the end of a capture, read from its memory, and its goroutines, which `full` knows from
//! their events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::escape::Untrusted;
use crate::model::sched::{Report, State};
use crate::model::{Model, Pauses};
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
    /// Alive at the end, those of the runtime itself included. In `full` what the events say; else those that were read
    /// or, where there are too many to read all, what the runtime's own counters say.
    pub live: u64,
    /// Of them, those that `runtime.NumGoroutine` counts: without those of the runtime itself. Absent where the
    /// runtime's counters are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u64>,
    /// By the runtime's name of their state.
    pub by_state: BTreeMap<Untrusted, u64>,
    /// Whether only a random sample of them was read, so that `by_state` is an estimate. Where none of the sample lives,
    /// it is empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Where `by_state` is an estimate: the interval that the count of each state lies in, in 95 of 100 samples.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_state_range: BTreeMap<Untrusted, Range>,
    /// The interval of `live`, where that is an estimate too, since the runtime's counters are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_range: Option<Range>,
}

/// The interval that an estimated count lies in, in 95 of 100 samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Its lower end.
    pub low: u64,
    /// Its upper end.
    pub high: u64,
}

impl From<(u64, u64)> for Range {
    fn from((low, high): (u64, u64)) -> Self {
        Self { low, high }
    }
}

impl Goroutines {
    /// Takes the goroutines of the scheduler where it was rebuilt and all states are known, else those of the last
    /// snapshot. So there is one figure for one thing: what a snapshot of `full` says is of another moment than the events.
    pub fn of(model: &Model, report: Option<&Report>) -> Option<Self> {
        let churn = report.map(|report| report.churn);
        let counted = report.filter(|report| report.valid_from_ns.is_some());
        let last = model.last();
        let (live, by_state, estimated) = match (counted, last) {
            (Some(report), _) => {
                let by_state = living(report);
                (by_state.values().sum::<u64>(), by_state, false)
            }
            (None, Some(last)) => (
                model.live()?,
                by_state(&last.goroutines_by_state),
                last.goroutines_sampled,
            ),
            (None, None) => return None,
        };
        let ranges = last.filter(|_| estimated);
        Some(Self {
            created: churn.map(|(created, _)| created),
            exited: churn.map(|(_, exited)| exited),
            live,
            user: last.and_then(|last| last.goroutines_user),
            by_state,
            estimated,
            by_state_range: ranges.map(ranges_by_state).unwrap_or_default(),
            live_range: ranges
                .and_then(|last| last.goroutines_live_range)
                .map(Range::from),
        })
    }
}

/// Living goroutines by state, as the events say.
fn living(report: &Report) -> BTreeMap<Untrusted, u64> {
    State::ALL
        .into_iter()
        .zip(report.living)
        .filter(|(state, count)| *state != State::Dead && *count > 0)
        .map(|(state, count)| (state.name().into(), count))
        .collect()
}

fn ranges_by_state(snapshot: &Snapshot) -> BTreeMap<Untrusted, Range> {
    snapshot
        .goroutines_by_state_range
        .iter()
        .map(|(state, low, high)| (state.as_str().into(), Range::from((*low, *high))))
        .collect()
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
    /// As [`Snapshot::stw_stopping_ns`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stw_stopping_ns: Option<ByPurpose>,
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

impl ByPurpose {
    /// Both together.
    pub fn sum(self) -> u64 {
        self.gc.saturating_add(self.other)
    }
}

/// Stop-the-world pauses within the capture, as the runtime itself counts them (Go 1.22 and newer): the differences of
/// its histograms between the first and the last reading. Each pause counts with the middle of its bucket: within
/// 12.5 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimePauses {
    /// From the first reading to the last.
    pub window_ns: u64,
    /// How many there were.
    pub count: ByPurpose,
    /// `/sched/pauses/stopping`: from the moment when the world is to stop until every P has stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping_ns: Option<ByPurpose>,
    /// `/sched/pauses/total`: from the moment when the world is to stop until the Ps have been given out again; the pause
    /// for mark termination ends a little before that.
    pub total_ns: ByPurpose,
}

impl RuntimePauses {
    /// Takes the pauses between the first and the last snapshot; `None` if the runtime does not count them.
    pub fn of(model: &Model) -> Option<Self> {
        let Pauses {
            window_ns,
            gc,
            other,
            stopping,
        } = model.pauses()?;
        Some(Self {
            window_ns,
            count: ByPurpose {
                gc: gc.0,
                other: other.0,
            },
            stopping_ns: stopping.map(|(gc, other)| ByPurpose { gc, other }),
            total_ns: ByPurpose {
                gc: gc.1,
                other: other.1,
            },
        })
    }
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
            stw_stopping_ns: by_purpose(snapshot.stw_stopping_ns),
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
