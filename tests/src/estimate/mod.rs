//! What samples say of why goroutines waited, beside what mode `full` saw, window by window: both from one recording.

pub mod pressed;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tracer_user::model::Model;
use tracer_user::model::estimate::CauseEstimate;
use tracer_user::model::sched::Cause;
use tracer_user::output::sink::NoOutput;
use tracer_user::stream::step::LatencyStep;
use tracer_user::stream::{Closing, Consumer, Flow, Kind, Observation, Step, Symbolizer};

use crate::replayed;

/// A share that is smaller need not be in an interval of a cause that no sample has seen.
const UNSEEN: f64 = 0.05;
/// For how long the states of a program may not be known yet.
const SETTLING_NS: u64 = 300_000_000;

/// A window of a recording.
#[derive(Clone, Debug)]
pub struct Window {
    /// Its length, in nanoseconds.
    pub length_ns: u64,
    /// ∫ (runnable goroutines) dt, as `full` saw it.
    pub runnable_ns: u64,
    /// The time that goroutines waited, by cause, as `full` saw it.
    pub by_cause_ns: BTreeMap<Cause, u64>,
    /// What the samples of the window say; `None` if there are none.
    pub estimate: Option<CauseEstimate>,
}

impl Window {
    /// The share of a cause, as `full` saw it.
    pub fn share(&self, cause: Cause) -> f64 {
        let all: u64 = self.by_cause_ns.values().sum();
        let own = self.by_cause_ns.get(&cause).copied().unwrap_or(0);
        own as f64 / all.max(1) as f64
    }

    /// The interval that the samples give for the share of a cause.
    pub fn interval(&self, cause: Cause) -> (f64, f64) {
        let mut shares = self.estimate.iter().flat_map(|estimate| &estimate.by_cause);
        let found = shares.find(|share| share.cause == cause);
        found.map_or((0.0, UNSEEN), |share| (share.low, share.high))
    }

    /// Whether the intervals of these causes hold what `full` saw.
    pub fn holds(&self, causes: &[Cause]) -> bool {
        causes.iter().all(|cause| {
            let (low, high) = self.interval(*cause);
            (low..=high).contains(&self.share(*cause))
        })
    }
}

/// Cuts a recording into windows of this length. One of mode `full` has both sides, one of another mode is a single
/// window with the estimate alone.
///
/// # Errors
/// It cannot be read.
pub fn windows(recording: &Path, length: Duration) -> Result<Vec<Window>> {
    let mut both = Both {
        length_ns: u64::try_from(length.as_nanos())?,
        ..Both::default()
    };
    replayed::through(recording, &mut both)?;
    Ok(both.windows())
}

/// What `full` had seen up to a moment.
#[derive(Clone, Debug, Default)]
struct Cut {
    at_ns: u64,
    runnable_ns: u64,
    by_cause_ns: BTreeMap<Cause, u64>,
}

/// Collects both sides of a recording.
#[derive(Default)]
struct Both {
    length_ns: u64,
    model: Model,
    next_ns: u64,
    cuts: Vec<Cut>,
    samples: Vec<Observation>,
}

impl Both {
    fn cut(&mut self, at_ns: u64) {
        let Some(sched) = self.model.scheduler().filter(|_| at_ns >= self.next_ns) else {
            return;
        };
        self.next_ns = at_ns + self.length_ns;
        let causes = sched.report(at_ns).causes;
        let by_cause = causes.by_cause.iter();
        self.cuts.push(Cut {
            at_ns,
            runnable_ns: causes.runnable_ns,
            by_cause_ns: by_cause.map(|report| (report.cause, report.total_ns)).collect(),
        });
    }

    /// The estimate of the samples that were taken in a stretch of time.
    fn estimate(&self, from_ns: u64, to_ns: u64) -> Option<CauseEstimate> {
        let mut model = Model::default();
        let there = self.samples.iter();
        there
            .filter(|seen| (from_ns + 1..=to_ns).contains(&seen.at_ns))
            .for_each(|seen| model.observe(seen));
        model.cause_estimate()
    }

    fn windows(&self) -> Vec<Window> {
        if self.model.scheduler().is_none() {
            let only = Window {
                length_ns: 0,
                runnable_ns: 0,
                by_cause_ns: BTreeMap::new(),
                estimate: self.estimate(0, u64::MAX),
            };
            return vec![only];
        }
        let pairs = self.cuts.windows(2).map(|pair| {
            let (from, to) = (&pair[0], &pair[1]);
            let grown = to.by_cause_ns.iter().map(|(cause, ns)| {
                let before = from.by_cause_ns.get(cause).copied().unwrap_or(0);
                (*cause, ns.saturating_sub(before))
            });
            Window {
                length_ns: to.at_ns - from.at_ns,
                runnable_ns: to.runnable_ns.saturating_sub(from.runnable_ns),
                by_cause_ns: grown.collect(),
                estimate: self.estimate(from.at_ns, to.at_ns),
            }
        });
        pairs.collect()
    }
}

impl Consumer for Both {
    fn step(&mut self, step: &Step, _names: &dyn Symbolizer) -> tracer_user::error::Result<Flow> {
        if let Step::Latencies(LatencyStep::Open(opening)) = step {
            self.next_ns = opening.at_ns + SETTLING_NS;
            if let Some(config) = opening.scheduler {
                self.model = Model::with_scheduler(config);
            }
        }
        Ok(Flow::Written)
    }

    fn observe(
        &mut self,
        observations: &[Observation],
        _names: &dyn Symbolizer,
    ) -> tracer_user::error::Result<Flow> {
        for seen in observations {
            self.model.observe(seen);
            match seen.kind {
                Kind::Transitions(_) => self.cut(seen.at_ns),
                Kind::CauseSamples(_) => self.samples.push(seen.clone()),
                _ => {}
            }
        }
        self.model.take_derived();
        Ok(Flow::Written)
    }

    fn close(self: Box<Self>) -> tracer_user::error::Result<Box<dyn Closing>> {
        Ok(Box::new(NoOutput))
    }
}
