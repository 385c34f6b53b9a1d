//! What the rules about a capture look at.

use crate::{
    escape::Untrusted,
    latency::{Histogram, Latency},
    model::{
        Model,
        estimate::CauseEstimate,
        ongoing::Ongoing,
        sched::{Cause, CausesReport, Report, SlowestWait, Who},
    },
    plan::Mode,
    process::limits::Limits,
    stream::{HistogramKey, Origin, Symbolizer, step::Halted},
};

/// What the rules about a capture look at. A part that the mode does not have is `None`.
pub struct Evidence<'a> {
    /// The mode of the capture.
    pub mode: Mode,
    /// The latencies.
    pub latency: &'a Latency,
    /// Whether voluntary yields are distinguished from other waits.
    pub knows_yields: bool,
    /// The gauges.
    pub model: &'a Model,
    /// What had begun and was not over at the end, where it is known.
    pub ongoing: Option<&'a Ongoing>,
    /// The scheduler, rebuilt from its transitions: `full`.
    pub report: Option<&'a Report>,
    /// Why goroutines waited, from every wait: `full`.
    pub causes: Option<&'a CausesReport>,
    /// The same, estimated from samples: `passive`, `sampled`.
    pub estimate: Option<&'a CauseEstimate>,
    /// Names of creation sites.
    pub symbolizer: &'a dyn Symbolizer,
    /// CPUs that the target's cgroup may use, where it is limited.
    pub cgroup_cpu_limit: Option<f64>,
    /// GOMAXPROCS, where known.
    pub gomaxprocs: Option<u32>,
    /// Minor version of Go: 27 for Go 1.27.3; `None` where unknown.
    pub go_minor: Option<u32>,
    /// Limits and settings of the target.
    pub limits: &'a Limits,
    /// How often the target was found stopped, traced or frozen.
    pub halted: &'a [Halted],
    /// The window's begin, CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// Length of the window.
    pub window_ns: u64,
}

impl<'a> Evidence<'a> {
    /// Waits Runnable→Running of goroutines that became runnable in this way.
    pub(super) fn waits(&self, origin: Origin) -> Option<&'a Histogram> {
        self.latency.by_key().get(&HistogramKey::Origin(origin))
    }

    /// The waits that count as latency: without voluntary yields, where these are distinguished.
    pub(super) fn latencies(&self) -> Histogram {
        match self.knows_yields {
            true => self.latency.without_yields(),
            false => self.latency.total(),
        }
    }

    /// Whether the kernel's events of the target's threads were seen: `full` without `--no-threads`.
    pub(super) fn sees_threads(&self) -> bool {
        let world = self.report.map(|report| &report.world);
        world.is_some_and(|world| world.on_cpu_ns > 0 || world.waiting_for_cpu_ns > 0 || world.asleep_ns > 0)
    }

    /// A moment of CLOCK_MONOTONIC, in nanoseconds since the capture's begin. What began before it counts from there.
    pub(super) fn since_begin(&self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.begin_ns)
    }

    /// How many goroutines it was at a time, on average, that this is the time of.
    pub(super) fn at_a_time(&self, ns: u64) -> f64 {
        ns as f64 / self.window_ns.max(1) as f64
    }

    /// The name of a creation site; its address where it has none.
    pub(super) fn site(&self, gopc: u64) -> String {
        match gopc {
            0 => "a function that is not known".to_owned(),
            _ => self
                .symbolizer
                .function_at(gopc)
                .map_or_else(|| format!("{gopc:#x}"), Untrusted::into_raw),
        }
    }

    /// A goroutine, with what is known of it: `goroutine 7 of main.serve`.
    pub(super) fn goroutine(&self, who: Who) -> String {
        let goroutine = match who.goid {
            0 => "a goroutine".to_owned(),
            goid => format!("goroutine {goid}"),
        };
        let name = (who.gopc != 0)
            .then(|| self.symbolizer.function_at(who.gopc))
            .flatten();
        match name {
            Some(name) => format!("{goroutine} of {}", name.raw()),
            None => goroutine,
        }
    }

    /// The middle of the wait that had most of a cause, in nanoseconds since the capture's begin.
    pub(super) fn clearest_moment(&self, cause: Cause) -> Option<u64> {
        let time_of = |wait: &SlowestWait| {
            let parts = wait.causes.iter().filter(|(of, _)| *of == cause);
            parts.map(|(_, ns)| *ns).max().unwrap_or(0)
        };
        let waits = self.causes?.slowest.iter();
        let clearest = waits.max_by_key(|wait| time_of(wait))?;
        (time_of(clearest) > 0).then(|| self.since_begin(middle_of(clearest)))
    }
}

/// The middle of a wait, CLOCK_MONOTONIC.
pub(super) fn middle_of(wait: &SlowestWait) -> u64 {
    wait.begin_ns.saturating_add(wait.duration_ns / 2)
}
