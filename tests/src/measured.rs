//! A run of a workload under gmpscope, with the figures of both sides, and what of them must agree.

use tracer_user::document::by_name::ByName;
use tracer_user::document::capture::{Capture, CaptureMode};
use tracer_user::stream::step::MeasuredBy;
use tracer_user::stream::{EndedBy, Origin};

use crate::histogram::{RuntimeHistogram, bucket_of, compare_passive, counts_agree, quantile, share_off};
use crate::oracle::Waits;

/// A run, with the figures of both sides.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The name for messages.
    pub name: String,
    /// Go ≥ 1.26: the lowest bucket of the runtime's histogram holds waits, not only artefacts.
    pub zeros_are_waits: bool,
    /// See [`Case::emulated`].
    pub emulated: bool,
    /// Bounds of the runtime's buckets.
    pub bounds: Vec<i64>,
    /// What the runtime recorded in the window.
    pub own: RuntimeHistogram,
    /// The workload's counters for the window.
    pub iterations: u64,
    /// CPU time of the workload in the window.
    pub cpu_ns: u64,
    /// The begin of the window on CLOCK_MONOTONIC: both ends lie in a pause.
    pub from_ns: u64,
    /// The end of the window.
    pub to_ns: u64,
    /// The capture.
    pub capture: Capture,
    /// gmpscope's standard error.
    pub said: String,
    /// The waits of `runtime/trace`, if it was recorded.
    pub waits: Option<Waits>,
}

/// The quantiles that are compared.
pub const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// What two sides disagree about.
#[derive(Clone, Debug, Default)]
pub struct Disagreements {
    /// Counts, and whatever else is the same however busy the machine is.
    pub facts: Vec<String>,
    /// Lengths of times: a thread may lose its CPU between our probe and the clock of the other side.
    pub times: Vec<String>,
}

impl Disagreements {
    /// All of them, those of facts first.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.facts.iter().chain(&self.times).map(String::as_str)
    }
}

impl Measured {
    /// The share of the window in which its Ps had the CPU, 0 to 1: less on a machine that is also doing something
    /// else, where all waits are longer by as much.
    pub fn share(&self) -> f64 {
        let procs = self.capture.target.gomaxprocs.unwrap_or(1).max(1);
        let window = (self.to_ns - self.from_ns) as f64 * f64::from(procs);
        (self.cpu_ns as f64 / window).clamp(0.05, 1.0)
    }

    /// Fails with all disagreements, if there are any.
    pub fn verdict(&self) -> std::result::Result<(), String> {
        let disagreements = self.disagreements();
        match disagreements.all().next() {
            None => Ok(()),
            Some(_) => Err(self.describe(&disagreements)),
        }
    }

    /// Describes disagreements for whoever reads the output of a test.
    pub fn describe(&self, disagreements: &Disagreements) -> String {
        format!(
            "{}:\n  {}\n  it said: {}",
            self.name,
            disagreements.all().collect::<Vec<_>>().join("\n  "),
            self.said.trim()
        )
    }

    /// Compares both sides.
    pub fn disagreements(&self) -> Disagreements {
        let mut wrong = Disagreements::default();
        match self.capture.capture.mode {
            CaptureMode::Passive => wrong.facts = self.passive(),
            CaptureMode::Sampled => self.sampled(&mut wrong),
            CaptureMode::Exact => self.exact(&mut wrong),
            CaptureMode::Full => self.full(&mut wrong),
            CaptureMode::Init => wrong.facts = vec!["a capture of starts".to_owned()],
        }
        wrong.facts.extend(self.shape());
        wrong
    }

    /// Checks what holds for every capture of a whole window.
    fn shape(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let (c, h) = (&self.capture.capture, &self.capture.runnable_to_running);
        if self.capture.schema != "gmpscope.capture/1" {
            wrong.push(format!("schema {}", self.capture.schema));
        }
        if !c.complete {
            wrong.push(format!(
                "not complete: {} lost ({:?})",
                c.lost_events, c.lost_by_cause
            ));
        }
        if c.ended_by != EndedBy::Signal {
            wrong.push(format!("ended by {:?}", c.ended_by));
        }
        if h.count != h.buckets.iter().map(|b| b.count).sum::<u64>() {
            wrong.push(format!("count {} is not the sum of the buckets", h.count));
        }
        if c.events != h.count {
            wrong.push(format!("events {} but count {}", c.events, h.count));
        }
        if !h.buckets.is_sorted_by(|a, b| a.le_ns < b.le_ns) || h.buckets.iter().any(|b| b.count == 0) {
            wrong.push("buckets not ascending, or empty".into());
        }
        wrong
    }

    /// Whether the latencies are the figures that the runtime itself recorded.
    pub fn is_the_runtimes_own(&self) -> bool {
        let sampling = self.capture.capture.sampling.as_ref();
        sampling.and_then(|sampling| sampling.measured_by) == Some(MeasuredBy::Runtime)
    }

    fn passive(&self) -> Vec<String> {
        let mut wrong = compare_passive(&self.own, &self.capture.runnable_to_running, self.zeros_are_waits);
        if self.capture.capture.probe_hits != 0 {
            wrong.push(format!(
                "{} probe hits without probes",
                self.capture.capture.probe_hits
            ));
        }
        wrong
    }

    fn sampled(&self, wrong: &mut Disagreements) {
        let h = &self.capture.runnable_to_running;
        let zeros = h.excluded_zero.unwrap_or(0);
        if zeros > self.own.zeros() {
            wrong.facts.push(format!(
                "{zeros} zeros left out, the runtime's lowest bucket has {}",
                self.own.zeros()
            ));
        }
        let own = self
            .own
            .sampled_waits(h, self.zeros_are_waits && self.is_the_runtimes_own());
        if !counts_agree(own.count(), h.count, 0.01, 5) {
            wrong.facts.push(format!(
                "the runtime sampled {} waits, gmpscope saw {}",
                own.count(),
                h.count
            ));
        }
        // With a handful of values a quantile may be any of them.
        if own.count() >= 50 && (self.is_the_runtimes_own() || !self.emulated) {
            let off = QUANTILES
                .into_iter()
                .filter_map(|q| self.sampled_quantile(&own, q));
            match self.is_the_runtimes_own() {
                // Both sides have one figure for one wait.
                true => wrong.facts.extend(off),
                false => wrong.times.extend(off),
            }
        }
    }

    /// The quantile must be in the same bucket as the runtime's own, or a neighbour. Where gmpscope takes the runtime's
    /// own figure (Go ≥ 1.26) that is all. Else the runtime reads its clock after the trap in which ours was read, so
    /// it may be one hit more; and since the counts may differ by 1 %, so may the rank.
    fn sampled_quantile(&self, own: &RuntimeHistogram, q: f64) -> Option<String> {
        let Some((ours_low, ours)) = quantile(&self.capture.runnable_to_running, q) else {
            return Some(format!("no p{}", q * 100.0));
        };
        let (ranks, hit) = match self.is_the_runtimes_own() {
            true => (0.0, 0),
            false => (0.01, self.capture.capture.probe_cost_ns.map_or(0, |c| c[1])),
        };
        let (lowest, _) = own.quantile(q - ranks)?;
        let (highest, _) = own.quantile(q + ranks)?;
        let theirs = [lowest, highest].map(|v| bucket_of(&self.bounds, v.max(0) as u64));
        let least = bucket_of(&self.bounds, ours_low + 1);
        let most = bucket_of(&self.bounds, ours + hit);
        if least <= theirs[1] + 1 && most + 1 >= theirs[0] {
            return None;
        }
        Some(format!(
            "p{}: the runtime has {lowest} to {highest} ns, gmpscope {ours} ns; a hit is {hit} ns",
            q * 100.0
        ))
    }

    fn exact(&self, wrong: &mut Disagreements) {
        let c = &self.capture.capture;
        let all = c.events + c.lost_events;
        if all > 0 && (c.events as f64) < 0.999 * all as f64 {
            wrong.facts.push(format!(
                "only {} of {all} waits paired: {:?}",
                c.events, c.lost_by_cause
            ));
        }
        let by_origin: u64 = self.capture.by_origin.values().map(|h| h.count).sum();
        if by_origin != self.capture.runnable_to_running.count {
            wrong.facts.push(format!(
                "by origin {by_origin}, in all {}",
                self.capture.runnable_to_running.count
            ));
        }
        // Whatever the runtime sampled is among all waits.
        let sampled = self.own.without_zeros().count();
        if c.events + 5 < sampled {
            wrong.facts.push(format!(
                "{} waits, though the runtime's sample alone has {sampled}",
                c.events
            ));
        }
        if let Some(waits) = &self.waits {
            self.against_trace(waits, wrong);
        }
    }

    /// Like `exact`, and every transition must be accounted for and the threads followed. What a binary hides from us
    /// is not an error: the capture names it.
    fn full(&self, wrong: &mut Disagreements) {
        self.exact(wrong);
        let Some(full) = &self.capture.full else {
            wrong.facts.push("nothing of what only full has".into());
            return;
        };
        let model = &full.model;
        if model.seen == 0 || model.seen != model.transitions + model.lost {
            wrong.facts.push(format!(
                "seen in the kernel {}, but delivered {} and dropped {}",
                model.seen, model.transitions, model.lost
            ));
        }
        let notes = self.capture.capture.notes.iter().map(ToString::to_string);
        wrong
            .facts
            .extend(notes.filter(|note| note.contains("is not reported")));
    }

    fn against_trace(&self, waits: &Waits, wrong: &mut Disagreements) {
        let h = &self.capture.runnable_to_running;
        let syscalls = self
            .capture
            .by_origin
            .get(&ByName(Origin::Syscall))
            .map_or(0, |h| h.count);
        let waits = &waits.without_artefacts(syscalls);
        if !counts_agree(waits.count, h.count, 0.005, 2) {
            wrong.facts.push(format!(
                "runtime/trace has {} waits ({:?}, left out {:?}), gmpscope {} ({:?})",
                waits.count,
                waits.by_cause,
                waits.excluded,
                h.count,
                self.capture
                    .by_origin
                    .iter()
                    .map(|(k, v)| (k.to_string(), v.count))
                    .collect::<Vec<_>>()
            ));
        }
        let cost = self.capture.capture.probe_cost_ns.map_or(0, |c| c[1]);
        for q in QUANTILES {
            let Some((low, ours)) = quantile(h, q) else {
                wrong.facts.push(format!("no p{}", q * 100.0));
                continue;
            };
            // The counts may differ by 0.5 %, and so may the ranks.
            let (least, most) = (waits.quantile(q - 0.005), waits.quantile(q + 0.005));
            let bucket = ours - low;
            let distance = low.saturating_sub(most).max(least.saturating_sub(ours));
            if waits.count >= 50 && distance > bucket.max(2 * cost) {
                wrong.times.push(format!(
                    "p{}: runtime/trace has {least} to {most} ns, gmpscope {low}..{ours} ns; a bucket is \
                     {bucket}, twice a hit {} ns",
                    q * 100.0,
                    2 * cost
                ));
            }
        }
        let off = share_off(&waits.latencies_ns, h, 1_000_000);
        if off > 0.005 {
            wrong.times.push(format!(
                "{:.2} % of the waits differ by more than 1 ms",
                off * 100.0
            ));
        }
    }
}
