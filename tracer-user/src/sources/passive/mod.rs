//! The source of `passive`, which costs the target nothing: it reads the runtime's own memory from outside.
//!
//! The latencies are those that the runtime itself keeps in `sched.timeToRun`, for `/sched/latencies:seconds` of
//! runtime/metrics: about one wait in eight of each goroutine, not uniformly chosen. Everything else is a gauge.

mod counters;
mod estimate;
mod gauges;
mod goroutines;
mod observe_error;
mod runnable;
mod shuffled;
mod switches;
mod time_to_run;
mod world;

use std::time::Duration;

use crate::binary::Globals;
use crate::binary::layout::Layout;
use crate::clock::ClockOffset;
use crate::process::memory::{Memory, ReadError};
use crate::stream::{BucketScheme, Kind, Loss, LossCause, Observation, Snapshot};

pub use observe_error::ObserveError;
pub use runnable::{Runnable, RunnableReading};
pub use world::WorldReading;

use goroutines::Walk;
use time_to_run::TimeToRun;

/// Reads one target.
#[derive(Debug)]
pub struct PassiveSource<M> {
    memory: M,
    globals: Globals,
    layout: Option<Layout>,
    time_to_run: Option<TimeToRun>,
    /// How far the target's clock is ahead of the host's, if that is known.
    clock: Option<ClockOffset>,
    walk: Walk,
}

impl<M: Memory> PassiveSource<M> {
    /// A source over `memory`. `globals` are link-time addresses, to each of which `bias` is added to get the run-time
    /// one; `go_minor` is 25 for Go 1.25.5. What `globals` or `layout` lack is not observed; without a layout there are
    /// still `gomaxprocs` and, where its address is known and `go_minor` implies its shape, the histogram. Nothing is
    /// read yet.
    pub fn new(memory: M, globals: &Globals, bias: u64, layout: Option<Layout>, go_minor: u32) -> Self {
        let biased = |address: Option<u64>| address.map(|a| a.wrapping_add(bias));
        let globals = Globals {
            sched: biased(globals.sched),
            time_to_run: biased(globals.time_to_run),
            allp: biased(globals.allp),
            allgs: biased(globals.allgs),
            allm: biased(globals.allm),
            gomaxprocs: biased(globals.gomaxprocs),
        };
        let time_to_run = TimeToRun::new(&globals, layout.as_ref(), go_minor);
        Self {
            memory,
            globals,
            layout,
            time_to_run,
            clock: Some(ClockOffset::NONE),
            walk: Walk::default(),
        }
    }

    /// Sets how far the target's clock is ahead of the host's, which is 0 without this call. For `None`, what takes
    /// a time from the target's memory is left out.
    #[must_use]
    pub fn with_clock(mut self, clock: Option<ClockOffset>) -> Self {
        self.clock = clock;
        self
    }

    /// The bucket scheme of the histogram, if there is one to be read.
    pub fn scheme(&self) -> Option<BucketScheme> {
        self.time_to_run.as_ref().map(TimeToRun::scheme)
    }

    /// Limits the walk over the goroutines to less of our CPU time than [`snapshot`](Self::snapshot) says; it reads about
    /// a thousand of them in any case.
    pub fn allow_walk(&mut self, per_second: Duration) {
        self.walk.allow(per_second);
    }

    /// Reads everything once; `now_ns` is CLOCK_MONOTONIC. The first call yields only a snapshot; each later one yields
    /// the waits since the previous one, and a snapshot.
    ///
    /// # Errors
    /// The process is gone, or may not be read, or its histogram is not where it should be. If only a gauge cannot be
    /// read, it is absent.
    pub fn observe(&mut self, now_ns: u64) -> Result<Vec<Observation>, ObserveError> {
        let mut observations = self.observe_waits(now_ns)?;
        let snapshot = self.snapshot(now_ns)?;
        observations.push(Observation {
            at_ns: now_ns,
            kind: Kind::Snapshot(Box::new(snapshot)),
        });
        Ok(observations)
    }

    /// [`observe`](Self::observe) without the gauges: one read of some 1.3 kB (Go 1.19: 5.8).
    ///
    /// # Errors
    /// As [`observe`](Self::observe).
    pub fn observe_waits(&mut self, now_ns: u64) -> Result<Vec<Observation>, ObserveError> {
        let Some(histogram) = &mut self.time_to_run else {
            return Ok(Vec::new());
        };
        let Some((delta, negative)) = histogram.read_delta(&self.memory)? else {
            return Ok(Vec::new());
        };
        let mut kinds = vec![Kind::HistogramDelta(delta)];
        if negative > 0 {
            kinds.push(Kind::Loss(Loss {
                cause: LossCause::Negative,
                count: negative,
            }));
        }
        Ok(kinds
            .into_iter()
            .map(|kind| Observation { at_ns: now_ns, kind })
            .collect())
    }

    /// Reads the gauges alone. The walk over the goroutines takes at most 5 ms of our CPU time per second since the last
    /// walk; where that is too little for all, it takes a random sample and says so: how many live is then what the
    /// runtime's own counters say, and their states are estimated. Within 200 ms of a walk its result is repeated.
    ///
    /// # Errors
    /// The process is gone or may not be read.
    pub fn snapshot(&mut self, now_ns: u64) -> Result<Snapshot, ReadError> {
        let mut snapshot = Snapshot::default();
        let (memory, globals) = (&self.memory, &self.globals);
        gauges::read_gomaxprocs(memory, globals, &mut snapshot).or_else(unless_gone)?;
        if let Some(layout) = &self.layout {
            gauges::read_sched(memory, globals, layout, self.clock, now_ns, &mut snapshot)
                .or_else(unless_gone)?;
            gauges::read_ps(memory, globals, &layout.p, &mut snapshot).or_else(unless_gone)?;
            counters::read_counters(memory, globals, layout, &mut snapshot).or_else(unless_gone)?;
            self.walk
                .read(memory, globals, &layout.g, now_ns, &mut snapshot)
                .or_else(unless_gone)?;
        }
        Ok(snapshot)
    }

    /// Reads every goroutine that can run and does not, within 50 ms of our CPU time. `clock` is CLOCK_MONOTONIC. `None`
    /// where the layout or the list of goroutines is not known.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn runnable(&self, clock: impl Fn() -> u64) -> Result<Option<RunnableReading>, ReadError> {
        let (Some(layout), Some(allgs)) = (&self.layout, self.globals.allgs) else {
            return Ok(None);
        };
        runnable::read(&self.memory, allgs, &layout.g, clock)
    }

    /// Reads how often each P has taken another goroutine to run (`p.schedtick`); those that inherit the rest of a time
    /// slice, of 10 ms, are not counted by the runtime. `None` where the layout or the Ps are not known.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn switches(&self) -> Result<Option<Vec<u32>>, ReadError> {
        let (Some(layout), Some(allp)) = (&self.layout, self.globals.allp) else {
            return Ok(None);
        };
        switches::read(&self.memory, allp, &layout.p)
    }

    /// Reads how many waits the runtime has tracked so far. `None` where its histogram is not known.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn tracked_waits(&self) -> Result<Option<u64>, ReadError> {
        let histogram = self.time_to_run.as_ref();
        histogram
            .map(|histogram| histogram.entries(&self.memory))
            .transpose()
    }

    /// Reads whether the world is being stopped, or is. `None` where the layout is not known.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn world(&self) -> Result<Option<WorldReading>, ReadError> {
        match &self.layout {
            Some(layout) => world::read(&self.memory, &self.globals, layout),
            None => Ok(None),
        }
    }
}

/// Leaves out a gauge that cannot be read, unless the process cannot be read at all.
fn unless_gone(e: ReadError) -> Result<(), ReadError> {
    match e {
        ReadError::Gone { .. } | ReadError::NotPermitted { .. } => Err(e),
        _ => {
            log::debug!("a gauge is left out: {e}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
