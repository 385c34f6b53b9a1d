//! What is read of a live target so that the end of its window finds what is not over.

use crate::{
    clock::now_ns,
    plan::Mode,
    process::memory::{ProcessMemory, ReadError},
    sources::{
        ongoing::{QueueWatch, StopWatch, still_runnable},
        passive::{PassiveSource, RunnableReading},
        probes::Stamps,
    },
    stream::{Kind, Observation, ongoing::OngoingSeen},
};

/// The least time between two looks: a time slice of the runtime's scheduler, of 10 ms, is shorter.
const EVERY_NS: u64 = 90_000_000;

/// Watches whether the world is being stopped, and whether the Ps stand still.
pub struct Watch {
    mode: Mode,
    world: StopWatch,
    queues: QueueWatch,
    /// When it looked last, CLOCK_MONOTONIC.
    looked_ns: u64,
}

/// What was read at the end of a window, while the probes were live.
pub struct LastLook {
    at_ns: u64,
    runnable: Option<RunnableReading>,
}

impl Watch {
    /// A watch of a target that is traced in this mode. Nothing is read yet.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            world: StopWatch::default(),
            queues: QueueWatch::default(),
            looked_ns: 0,
        }
    }

    /// Looks, unless it has looked a moment ago.
    pub fn look(&mut self, memory: &PassiveSource<ProcessMemory>, now_ns: u64) {
        if now_ns.saturating_sub(self.looked_ns) < EVERY_NS {
            return;
        }
        self.looked_ns = now_ns;
        self.world.take(now_ns, found("the world", memory.world()));
        if self.needs_queues()
            && self.queues.take(found("the Ps", memory.switches()))
            && let Some(reading) = runnable(memory)
        {
            self.queues.remember(&reading);
        }
    }

    /// Looks for the last time, at the end of the window; the probes must still be live.
    pub fn look_last(&mut self, memory: &PassiveSource<ProcessMemory>) -> LastLook {
        let at_ns = now_ns();
        self.world.take(at_ns, found("the world", memory.world()));
        // In `full` the transitions have the goroutines.
        let runnable = match self.mode {
            Mode::Full => None,
            Mode::Passive | Mode::Sampled | Mode::Exact => runnable(memory),
        };
        if self.needs_queues() {
            // After the goroutines: up to here none of those that are remembered has run.
            self.queues.take(found("the Ps", memory.switches()));
        }
        LastLook { at_ns, runnable }
    }

    /// Puts together what is not over; `None` where nothing is known. `stamps` are those of the goroutines of the look.
    pub fn ongoing(&self, look: LastLook, stamps: Option<&Stamps>) -> Option<Observation> {
        let runnable = look.runnable.as_ref();
        let seen = OngoingSeen {
            runnable: runnable.map(|reading| still_runnable(reading, stamps, &self.queues)),
            stop: self.world.stop(),
        };
        (seen != OngoingSeen::default()).then_some(Observation {
            at_ns: look.at_ns,
            kind: Kind::Ongoing(seen),
        })
    }

    /// Whether nothing but the runtime's own stamps says since when goroutines wait.
    fn needs_queues(&self) -> bool {
        matches!(self.mode, Mode::Passive | Mode::Sampled)
    }
}

impl LastLook {
    /// The gs of the goroutines that could run.
    pub fn gs(&self) -> Vec<u64> {
        let reading = self.runnable.iter();
        reading
            .flat_map(|reading| &reading.goroutines)
            .map(|goroutine| goroutine.g)
            .collect()
    }
}

fn runnable(memory: &PassiveSource<ProcessMemory>) -> Option<RunnableReading> {
    found("the runnable goroutines", memory.runnable(now_ns))
}

/// What was read; `None` where it could not be.
fn found<T>(what: &str, reading: Result<Option<T>, ReadError>) -> Option<T> {
    reading
        .inspect_err(|e| log::debug!("{what} cannot be read: {e}"))
        .ok()
        .flatten()
}
