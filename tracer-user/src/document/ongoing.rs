//! What had begun and was not over at the end of a capture. It is in no histogram, and its lengths are lower bounds.

use serde::{Deserialize, Serialize};

use crate::document::by_name::ByName;
use crate::document::named::Named;
use crate::escape::Untrusted;
use crate::model::ongoing::{self, Stretches};
use crate::model::start::{Ended, Start};
use crate::stream::Origin;

/// The number of starts that are described one by one.
const STARTS: usize = 10;

/// What had begun and was not over. A part that the mode cannot know is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ongoing {
    /// Goroutines that could run and did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runnable: Option<InState>,
    /// Goroutines that ran: `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<InState>,
    /// Goroutines in system calls: `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<InState>,
    /// The world was being stopped, or was; absent where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_the_world: Option<StopTheWorld>,
    /// Starts that had not reached `main.main`, where there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<StartsOngoing>,
}

/// Goroutines in one state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InState {
    /// How many there were.
    pub count: u64,
    /// Those of them of which it is not known since when: only a part of them has a time in `passive` and `sampled`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub since_unknown: u64,
    /// The longest time that one of them had been in the state, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_ns: Option<u64>,
    /// Those that had been in it longest, ten at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub longest: Vec<GoroutineInState>,
    /// The number of goroutines, ended ones included, that were looked at; absent where that was all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<u64>,
    /// The number of them all, where not all were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
}

/// A goroutine that had not left its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoroutineInState {
    /// How long it had been in it, at least.
    pub at_least_ns: u64,
    /// Whether its begin is known; else it was in the state already when it was first seen.
    pub begin_known: bool,
    /// Goroutine id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goid: Option<u64>,
    /// Function of its `go` statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_site: Option<Untrusted>,
    /// How it became runnable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ByName<Origin>>,
}

/// A stop of the world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StopTheWorld {
    /// How long it had taken, at least; absent where it was seen only once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least_ns: Option<u64>,
    /// The runtime's name of the reason: `full`, where its begin was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Untrusted>,
    /// Ps that had not stopped yet, where that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ps_not_stopped: Option<u32>,
}

/// Starts that had not reached `main.main`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StartsOngoing {
    /// How many there were; with `--follow` twenty at most.
    pub count: u64,
    /// The ten whose present phase had taken longest.
    pub longest: Vec<StartOngoing>,
}

/// A start that had not reached `main.main`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartOngoing {
    /// Process id.
    pub pid: u32,
    /// The phase that it was in.
    pub phase: Untrusted,
    /// How long the phase had taken, at least.
    pub at_least_ns: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Ongoing {
    /// Builds it from what the model knows.
    pub fn of(ongoing: &ongoing::Ongoing, named: &Named<'_>) -> Self {
        let in_state = |stretches: &Option<Stretches>| {
            let stretches = stretches.as_ref();
            stretches.map(|stretches| InState::of(stretches, named))
        };
        Self {
            runnable: in_state(&ongoing.runnable),
            running: in_state(&ongoing.running),
            syscalls: in_state(&ongoing.syscalls),
            stop_the_world: ongoing.stop.map(|stop| StopTheWorld {
                at_least_ns: stop.at_least_ns,
                reason: stop.reason_name().map(Untrusted::from),
                ps_not_stopped: stop.not_stopped,
            }),
            starts: None,
        }
    }

    /// Takes those of these starts that had not reached `main.main`; `None` if there were none.
    pub fn of_starts<'a>(starts: impl IntoIterator<Item = &'a Start>) -> Option<Self> {
        let open = starts
            .into_iter()
            .filter(|start| start.ended == Ended::Unfinished);
        let mut open: Vec<StartOngoing> = open
            .filter_map(|start| {
                let phase = start.phases.last()?;
                Some(StartOngoing {
                    pid: start.pid,
                    phase: phase.kind.name().into(),
                    at_least_ns: phase.duration_ns(),
                })
            })
            .collect();
        let count = open.len() as u64;
        open.sort_by_key(|start| (std::cmp::Reverse(start.at_least_ns), start.pid));
        open.truncate(STARTS);
        let starts = StartsOngoing { count, longest: open };
        (count > 0).then(|| Self {
            starts: Some(starts),
            ..Self::default()
        })
    }
}

impl InState {
    fn of(stretches: &Stretches, named: &Named<'_>) -> Self {
        Self {
            count: stretches.count,
            since_unknown: stretches.unknown,
            longest_ns: stretches.longest_ns(),
            longest: stretches
                .longest
                .iter()
                .map(|stretch| GoroutineInState {
                    at_least_ns: stretch.at_least_ns,
                    begin_known: stretch.is_begin_known,
                    goid: (stretch.goid != 0).then_some(stretch.goid),
                    creation_site: (stretch.gopc != 0).then(|| named.creation_site(stretch.gopc)),
                    origin: stretch.origin.map(ByName),
                })
                .collect(),
            looked_at: stretches.read.map(|(read, _)| read),
            of: stretches.read.map(|(_, all)| all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::start::{Phase, PhaseKind, TimesFrom};

    fn start(pid: u32, ended: Ended, took_ns: u64) -> Start {
        let phase = |kind, begin_ns, end_ns| Phase {
            kind,
            begin_ns,
            end_ns,
            usage: None,
        };
        Start {
            pid,
            binary: 0,
            zero: TimesFrom::Execve,
            held_ns: 0,
            phases: vec![
                phase(PhaseKind::Exec, 100, 400),
                phase(PhaseKind::Rt0, 400, 400 + took_ns),
            ],
            spans: Vec::new(),
            marks: Vec::new(),
            calls: Vec::new(),
            gomaxprocs: None,
            ended,
        }
    }

    #[test]
    fn starts_that_are_not_over_are_reported_with_their_last_phase() {
        let starts = [
            start(1, Ended::Main, 9_000),
            start(2, Ended::Unfinished, 2_000),
            start(3, Ended::Exit, 9_000),
            start(4, Ended::Unfinished, 3_000),
        ];
        let ongoing = Ongoing::of_starts(&starts).unwrap().starts.unwrap();
        let longest = ongoing.longest.iter();
        let longest: Vec<_> = longest
            .map(|start| (start.pid, start.phase.raw(), start.at_least_ns))
            .collect();
        assert_eq!(longest, [(4, "rt0", 3_000), (2, "rt0", 2_000)]);
        assert_eq!(ongoing.count, 2);
        assert_eq!(Ongoing::of_starts(&starts[..1]), None);
    }
}
