//! Every change of a goroutine's state, as a consumer of gmpscope's own recording sees it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use tracer_user::model::sched::{Change, Sched};
use tracer_user::output::sink::NoOutput;
use tracer_user::stream::step::LatencyStep;
use tracer_user::stream::{Closing, Consumer, EndedBy, Flow, Observation, Step, Symbolizer};

use crate::replayed;

/// The changes that the model derives from a capture in mode `full`.
#[derive(Default)]
pub struct StateChanges {
    sched: Option<Sched>,
    /// The changes, in the order in which the model made them.
    pub changes: Vec<Change>,
    /// Ids of goroutines, by life.
    pub goids: BTreeMap<u32, u64>,
    /// Whether the recording ends in the middle of its capture.
    is_cut: bool,
}

impl StateChanges {
    /// Reads all changes of a recording.
    ///
    /// # Errors
    /// It cannot be read, or is not one of mode `full`.
    pub fn of(recording: &Path) -> Result<Self> {
        let name = recording.display();
        let mut changes = Self::default();
        replayed::through(recording, &mut changes)?;
        ensure!(changes.sched.is_some(), "{name} has no scheduler in it");
        ensure!(!changes.is_cut, "{name} ends in the middle of its capture");
        Ok(changes)
    }

    fn learn(&mut self) {
        let Some(sched) = &mut self.sched else {
            return;
        };
        for change in sched.take_changes() {
            let known = sched.goroutine_of_life(change.g, change.life);
            let goid = known.map_or(change.goid, |goroutine| goroutine.goid.max(change.goid));
            if goid != 0 {
                self.goids.insert(change.life, goid);
            }
            self.changes.push(change);
        }
    }
}

impl Consumer for StateChanges {
    fn step(&mut self, step: &Step, _names: &dyn Symbolizer) -> tracer_user::error::Result<Flow> {
        if let Step::Latencies(LatencyStep::Open(opening)) = step
            && let Some(config) = opening.scheduler
        {
            let mut sched = Sched::new(config);
            sched.keep_changes();
            self.sched = Some(sched);
        }
        if let Step::Latencies(LatencyStep::Finish { ended_by, .. }) = step {
            self.is_cut = *ended_by == EndedBy::RecordingCut;
        }
        Ok(Flow::Written)
    }

    fn observe(
        &mut self,
        observations: &[Observation],
        _names: &dyn Symbolizer,
    ) -> tracer_user::error::Result<Flow> {
        if let Some(sched) = &mut self.sched {
            observations.iter().for_each(|seen| sched.observe(seen));
            sched.take_derived();
        }
        self.learn();
        Ok(Flow::Written)
    }

    fn conclude(&mut self, _names: &dyn Symbolizer) -> tracer_user::error::Result<Option<bool>> {
        let living = self.sched.iter().flat_map(Sched::goroutines);
        let named = living.filter(|goroutine| goroutine.goid != 0);
        self.goids
            .extend(named.map(|goroutine| (goroutine.life, goroutine.goid)));
        Ok(None)
    }

    fn close(self: Box<Self>) -> tracer_user::error::Result<Box<dyn Closing>> {
        Ok(Box::new(NoOutput))
    }
}
