//! Figures of one capture that say the same thing and were come by in different ways. Each pair must agree within a
//! bound; docs/accuracy.md lists them ("Two figures for one thing").

use std::collections::BTreeMap;

use tracer_user::document::by_name::ByName;
use tracer_user::document::capture::{Capture, CaptureMode};
use tracer_user::document::full::Full;
use tracer_user::document::hist::Hist;
use tracer_user::document::init::Init;
use tracer_user::model::sched::State;
use tracer_user::stream::Origin;

/// Creation sites whose churn a capture lists at most: with so many, the rest is not listed.
const CHURN_SITES: usize = 50;
/// One pause may have been in progress at each end of either window.
const EDGES: u64 = 4;
/// How much a figure from the runtime's histogram may be off by its buckets, and what lies between the two clocks of an
/// event, as a share.
const HISTOGRAM_SHARE: f64 = 0.25;
/// What a thread that loses its CPU between the two clocks of an event may add.
const DISTURBANCE_NS: u64 = 3_000_000;

/// What does not agree.
#[derive(Debug, Default)]
struct Pairs(Vec<String>);

impl Pairs {
    fn equal(&mut self, one: (&str, u64), other: (&str, u64)) {
        self.near(one, other, 0);
    }

    fn near(&mut self, one: (&str, u64), other: (&str, u64), bound: u64) {
        if one.1.abs_diff(other.1) > bound {
            self.0.push(format!(
                "{} is {}, {} is {}: more than {bound} apart",
                one.0, one.1, other.0, other.1
            ));
        }
    }

    fn at_most(&mut self, one: (&str, u64), other: (&str, u64)) {
        if one.1 > other.1 {
            self.0.push(format!(
                "{} is {}, more than {}, {}",
                one.0, one.1, other.0, other.1
            ));
        }
    }
}

/// Returns what disagrees in a capture from which nothing is missing.
pub fn disagreements(capture: &Capture) -> Vec<String> {
    let mut pairs = Pairs::default();
    if let Some(init) = &capture.init {
        starts(capture, init, &mut pairs);
    }
    if capture.capture.mode == CaptureMode::Init {
        return pairs.0;
    }
    waits(capture, &mut pairs);
    goroutines(capture, &mut pairs);
    processors(capture, &mut pairs);
    pauses(capture, &mut pairs);
    if let Some(full) = &capture.full {
        model(capture, full, &mut pairs);
    }
    pairs.0
}

/// Returns what disagrees of times that two clocks took: a thread that loses its CPU between them is no error, but does not
/// do so each time: where nothing else disagrees it may be measured once more.
pub fn disagreements_of_clocks(capture: &Capture) -> Vec<String> {
    let mut pairs = Pairs::default();
    let seen = capture.full.as_ref().and_then(|full| full.world.pauses);
    if let (Some(seen), Some(own)) = (seen, &capture.pauses) {
        let own_ns = own.total_ns.sum();
        let bound = (seen.total_ns.max(own_ns) as f64 * HISTOGRAM_SHARE) as u64 + DISTURBANCE_NS;
        pairs.near(
            ("full.world.pauses.total_ns", seen.total_ns),
            ("pauses.total_ns", own_ns),
            bound,
        );
    }
    pairs.0
}

fn counts<K>(histograms: &BTreeMap<K, Hist>) -> u64 {
    histograms.values().map(|hist| hist.count).sum()
}

fn waits(capture: &Capture, pairs: &mut Pairs) {
    let events = ("capture.events", capture.capture.events);
    let all = &capture.runnable_to_running;
    pairs.equal(events, ("runnable_to_running.count", all.count));
    let in_buckets = all.buckets.iter().map(|bucket| bucket.count).sum();
    pairs.equal(events, ("what its buckets hold", in_buckets));
    if matches!(capture.capture.mode, CaptureMode::Exact | CaptureMode::Full) {
        pairs.equal(events, ("the waits by origin", counts(&capture.by_origin)));
    }
    if matches!(capture.capture.mode, CaptureMode::Sampled | CaptureMode::Full) {
        let by_site = ("the waits by creation site", counts(&capture.by_creation_site));
        pairs.equal(events, by_site);
    }
    if let Some(summary) = &capture.slow_summary {
        pairs.at_most(
            ("the slow waits that are listed", capture.slow.len() as u64),
            ("slow_summary.count", summary.count),
        );
        pairs.at_most(("slow_summary.count", summary.count), events);
        let longest = capture.slow.first().map_or(0, |slow| slow.latency_ns);
        pairs.equal(
            ("the longest slow wait", longest),
            ("slow_summary.max_ns", summary.max_ns),
        );
    }
}

fn starts(capture: &Capture, init: &Init, pairs: &mut Pairs) {
    let all = ("init.runs and unfinished", init.runs + init.unfinished);
    if capture.capture.mode == CaptureMode::Init {
        pairs.equal(("capture.events", capture.capture.events), all);
    }
    pairs.at_most(("init.starts", init.starts.len() as u64), all);
    let total = init.histograms.iter().find(|(name, _)| name.raw() == "total");
    if let Some((_, total)) = total {
        pairs.equal(("init.runs", init.runs), ("init.histograms.total", total.count));
    }
    for run in init.run.iter().chain(&init.slowest) {
        let phases = run.phases.iter().map(|phase| phase.duration_ns).sum();
        pairs.equal(("the time of a start", run.duration_ns), ("its phases", phases));
    }
}

fn goroutines(capture: &Capture, pairs: &mut Pairs) {
    let Some(goroutines) = &capture.goroutines else {
        return;
    };
    let live = ("goroutines.live", goroutines.live);
    let by_state = ("the goroutines by state", goroutines.by_state.values().sum());
    if !goroutines.estimated {
        pairs.equal(live, by_state);
    } else if !goroutines.by_state.is_empty() {
        // Each is rounded.
        pairs.near(live, by_state, goroutines.by_state.len() as u64);
    }
    for (state, range) in &goroutines.by_state_range {
        let count = goroutines.by_state.get(state).copied().unwrap_or(0);
        pairs.at_most(("the low end of an estimate", range.low), ("it", count));
        pairs.at_most(("an estimate", count), ("its high end", range.high));
        pairs.at_most(("the high end of an estimate", range.high), live);
    }
    if let Some(scheduler) = &capture.scheduler
        && let Some(allgs) = scheduler.allgs
        && capture.full.is_none()
        && !goroutines.estimated
    {
        pairs.at_most(live, ("scheduler.allgs", allgs));
    }
}

fn processors(capture: &Capture, pairs: &mut Pairs) {
    let (Some(scheduler), Some(gomaxprocs)) = (&capture.scheduler, capture.target.gomaxprocs) else {
        return;
    };
    let set = capture.full.as_ref().map_or(0, |full| full.world.gomaxprocs_set);
    if set > 0 {
        return;
    }
    let gomaxprocs = ("target.gomaxprocs", u64::from(gomaxprocs));
    if let Some(gauge) = scheduler.gomaxprocs {
        pairs.equal(gomaxprocs, ("scheduler.gomaxprocs", gauge.into()));
    }
    if !scheduler.local_runqs.is_empty() {
        let queues = ("scheduler.local_runqs", scheduler.local_runqs.len() as u64);
        pairs.equal(gomaxprocs, queues);
    }
    if !scheduler.ps_by_state.is_empty() {
        let by_state = ("the Ps by state", scheduler.ps_by_state.values().sum());
        pairs.equal(gomaxprocs, by_state);
    }
    if let Some(full) = &capture.full {
        let processors = ("full.processors", full.processors.len() as u64);
        pairs.equal(gomaxprocs, processors);
    }
}

fn pauses(capture: &Capture, pairs: &mut Pairs) {
    let (Some(own), Some(scheduler)) = (&capture.pauses, &capture.scheduler) else {
        return;
    };
    let count = ("pauses.count", own.count.sum());
    let total = ("pauses.total_ns", own.total_ns.sum());
    if let (Some(pauses), Some(time)) = (scheduler.stw_pauses, scheduler.stw_total_ns) {
        pairs.at_most(count, ("scheduler.stw_pauses", pauses.sum()));
        pairs.at_most(total, ("scheduler.stw_total_ns", time.sum()));
    }
    if let Some(stopping) = own.stopping_ns {
        // Of each pause another bucket may hold the part than the whole.
        let whole = ("pauses.total_ns with its buckets", widened(total.1));
        pairs.at_most(("pauses.stopping_ns", stopping.sum()), whole);
    }
    let Some(full) = &capture.full else {
        return;
    };
    let more = own.count.sum() / 10;
    pairs.near(("full.world.stops", full.world.stops), count, EDGES + more);
    if let Some(seen) = full.world.pauses {
        pairs.near(("full.world.pauses.count", seen.count), count, EDGES + more);
    }
    // A cycle stops the world before it begins, and for mark termination; again where marking was not over yet.
    let stops = ("twice full.world.gc_cycles", 2 * full.world.gc_cycles);
    pairs.at_most(stops, ("pauses.count.gc and the edges", own.count.gc + EDGES));
}

fn widened(ns: u64) -> u64 {
    (ns as f64 * (1.0 + HISTOGRAM_SHARE)) as u64
}

/// The figures of `full` among themselves.
fn model(capture: &Capture, full: &Full, pairs: &mut Pairs) {
    let of = &full.model;
    pairs.equal(
        ("full.model.seen", of.seen),
        ("transitions and lost ones", of.transitions + of.lost),
    );
    let window_ns = capture.capture.duration_ns;
    let in_state = |state| full.time_in_state_ns.get(&ByName(state)).copied().unwrap_or(0);
    let (mut busy_ns, mut held_ns) = (0, 0);
    for processor in &full.processors {
        pairs.at_most(
            ("the time that a P was held", processor.held_ns),
            ("the window", window_ns),
        );
        (busy_ns, held_ns) = (busy_ns + processor.busy_ns, held_ns + processor.held_ns);
    }
    let busy = ("the time that Ps were busy", busy_ns);
    pairs.at_most(busy, ("the time that they were held", held_ns + window_ns / 50));
    let on_threads = in_state(State::Running) + in_state(State::Syscall);
    let bound_ns = on_threads + on_threads / 20 + window_ns / 50;
    pairs.at_most(busy, ("the time in running and syscall", bound_ns));
    // A wait that had not ended, or not begun, within the window has no sum.
    if let Some(sum_ns) = capture.runnable_to_running.sum_ns {
        let runnable = in_state(State::Runnable);
        let sum = ("the sum of the waits", sum_ns);
        pairs.at_most(sum, ("the time in runnable", runnable + runnable / 100));
    }
    let waited_ns = capture
        .by_wait_reason
        .values()
        .filter_map(|hist| hist.sum_ns)
        .sum();
    let waiting = in_state(State::Waiting);
    let waited = ("the sum by wait reason", waited_ns);
    pairs.at_most(waited, ("the time in waiting", waiting + waiting / 100));
    if let Some(goroutines) = &capture.goroutines {
        churn(capture, full, goroutines.created, goroutines.exited, pairs);
    }
    if let Some(idle_ms) = capture.scheduler.as_ref().and_then(|scheduler| scheduler.idle_ms) {
        // Read at different moments.
        let bound = 4 + full.machines.known / 4;
        let parked = ("full.machines.parked", full.machines.parked);
        pairs.near(parked, ("scheduler.idle_ms", idle_ms.into()), bound);
    }
}

fn churn(capture: &Capture, full: &Full, created: Option<u64>, exited: Option<u64>, pairs: &mut Pairs) {
    let listed = full.churn.iter().fold((0, 0), |(created, exited), site| {
        (created + site.created, exited + site.exited)
    });
    for (name, all, listed) in [
        ("goroutines.created", created, listed.0),
        ("goroutines.exited", exited, listed.1),
    ] {
        let Some(all) = all else { continue };
        let listed = ("full.churn", listed);
        if full.churn.len() < CHURN_SITES {
            pairs.equal((name, all), listed);
        } else {
            pairs.at_most(listed, (name, all));
        }
    }
    // Those that were created and have run for the first time.
    let began = capture.by_origin.get(&ByName(Origin::Created));
    let began = began.map_or(0, |hist| hist.count);
    if let Some(created) = created {
        pairs.at_most(
            ("the waits of new goroutines", began),
            ("goroutines.created", created),
        );
    }
}
