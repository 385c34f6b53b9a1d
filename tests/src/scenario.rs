//! One measured run: a workload is parked, `gmpscope` attached, the workload released and parked again, so that both
//! saw exactly the same waits; and what must then agree.

use std::time::Duration;

use anyhow::{Context, Result};
use tracer_user::document::capture::{Capture, CaptureMode};

use crate::environment::monotonic_ns;
use crate::histogram::{RuntimeHistogram, bucket_of, compare_passive, counts_agree, quantile, share_off};
use crate::oracle::{self, Waits};
use crate::run::Attach;
use crate::toolchain::Toolchain;
use crate::variant::Variant;
use crate::workload::Workload;
use tracer_user::document::by_name::ByName;
use tracer_user::stream::step::MeasuredBy;
use tracer_user::stream::{EndedBy, Origin};

/// How many attempts two sides that count in different places have to agree.
const ATTEMPTS: usize = 3;

/// A workload and how it is built and run.
#[derive(Clone, Debug)]
pub struct Case {
    /// The Go that builds it.
    pub toolchain: Toolchain,
    /// The build variant.
    pub variant: Variant,
    /// The name of the workload.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<&'static str>,
    /// Its `GOMAXPROCS`.
    pub gomaxprocs: u32,
    /// How long it is running between the two pauses.
    pub time: Duration,
    /// Environment variables of gmpscope.
    pub environment: Vec<(&'static str, &'static str)>,
    /// The processor is emulated: what a probe measures is counted, but its times mean nothing.
    pub emulated: bool,
}

impl Case {
    /// A workload on two Ps that runs for 300 ms.
    pub fn new(toolchain: &Toolchain, variant: Variant, program: &'static str) -> Self {
        Self {
            toolchain: toolchain.clone(),
            variant,
            program,
            args: Vec::new(),
            gomaxprocs: 2,
            time: Duration::from_millis(300),
            environment: Vec::new(),
            emulated: false,
        }
    }

    /// Sets `GOMAXPROCS`.
    pub fn gomaxprocs(mut self, n: u32) -> Self {
        self.gomaxprocs = n;
        self
    }

    /// Sets the workload's arguments.
    pub fn args(mut self, args: &[&'static str]) -> Self {
        self.args = args.to_vec();
        self
    }

    /// Sets how long it runs.
    pub fn during(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Uses perf events for the probes, as on kernels before 6.6.
    pub fn by_perf_events(mut self) -> Self {
        self.environment.push(("GMPSCOPE_PERF_EVENTS", "1"));
        self
    }

    /// Marks the processor as emulated.
    pub fn emulated(mut self) -> Self {
        self.emulated = true;
        self
    }

    /// The name for messages.
    pub fn name(&self) -> String {
        format!(
            "Go {} {} {}",
            self.toolchain.version(),
            self.variant.name(),
            self.program
        )
    }

    /// Starts the workload.
    pub fn start(&self) -> Result<Workload> {
        Workload::start(
            &self.variant.build(&self.toolchain, self.program)?,
            self.gomaxprocs,
            &self.args,
        )
    }

    /// Runs the workload under `gmpscope` in this mode.
    pub fn measure(&self, mode: &str) -> Result<Measured> {
        self.measured(mode, false)
            .with_context(|| format!("{}, {mode}", self.name()))
    }

    /// Like [`Self::measure`], while the workload records `runtime/trace`.
    pub fn measure_traced(&self, mode: &str) -> Result<Measured> {
        self.measured(mode, true)
            .with_context(|| format!("{}, {mode}, with runtime/trace", self.name()))
    }

    /// Measures until both sides agree, at most [`ATTEMPTS`] times; with `traced` against `runtime/trace` too.
    ///
    /// On a machine whose CPUs are all busy, a thread may lose its CPU between the probe and the runtime's own clock,
    /// several times in one run. That is not an error in the figures, and does not recur every time; a bug in the
    /// tracer does. `passive` has no such excuse, nor has `sampled` where it takes the runtime's own figures (Go ≥
    /// 1.26): they have one attempt.
    ///
    /// # Errors
    /// The disagreements of each attempt.
    pub fn agrees(&self, mode: &str, traced: bool) -> std::result::Result<Measured, String> {
        let mut disagreed = Vec::new();
        for _ in 0..ATTEMPTS {
            let measured = self
                .measured(mode, traced)
                .with_context(|| format!("{}, {mode}", self.name()))
                .map_err(|e| format!("{e:#}"))?;
            match measured.verdict() {
                Ok(()) => return Ok(measured),
                Err(why) => disagreed.push(why),
            }
            // An emulated machine is so slow that a goroutine of the runtime may still wake in a pause.
            if measured.is_the_runtimes_own() && !self.emulated {
                break;
            }
        }
        Err(disagreed.join("\n"))
    }

    fn measured(&self, mode: &str, traced: bool) -> Result<Measured> {
        let mut workload = self.start()?;
        let bounds = workload
            .first
            .bounds_ns
            .clone()
            .context("the first event has no bounds")?;
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("trace");
        let mut before = workload.first.clone();
        if traced {
            before = workload.trace_start(&file)?;
        }
        let attach = Attach::to(workload.pid()).mode(mode);
        let tracer = self
            .environment
            .iter()
            .fold(attach, |attach, (name, value)| attach.env(name, value))
            .start()?;
        let from_ns = monotonic_ns();
        let after = workload.go_during(self.time)?;
        let to_ns = monotonic_ns();
        let outcome = tracer.interrupt()?;
        let waits = if traced {
            workload.trace_stop()?;
            Some(oracle::waits(&file, from_ns, to_ns, false)?)
        } else {
            None
        };
        let said = outcome.stderr.clone();
        Ok(Measured {
            name: format!("{}, {mode}", self.name()),
            zeros_are_waits: self.toolchain.minor() >= 26,
            emulated: self.emulated,
            bounds,
            own: after.latencies.since(&before.latencies),
            iterations: after.iterations - before.iterations,
            cpu_ns: after.cpu_ns - before.cpu_ns,
            from_ns,
            to_ns,
            capture: outcome.captured()?,
            said,
            waits,
        })
    }
}

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
        let mut wrong = match self.capture.capture.mode {
            CaptureMode::Passive => self.passive(),
            CaptureMode::Sampled => self.sampled(),
            CaptureMode::Exact => self.exact(),
            CaptureMode::Full => self.full(),
            CaptureMode::Init => vec!["a capture of starts".to_owned()],
        };
        wrong.extend(self.shape());
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "{}:\n  {}\n  it said: {}",
                self.name,
                wrong.join("\n  "),
                self.said.trim()
            ))
        }
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

    fn sampled(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let h = &self.capture.runnable_to_running;
        let zeros = h.excluded_zero.unwrap_or(0);
        if zeros > self.own.zeros() {
            wrong.push(format!(
                "{zeros} zeros left out, the runtime's lowest bucket has {}",
                self.own.zeros()
            ));
        }
        let own = self
            .own
            .sampled_waits(h, self.zeros_are_waits && self.is_the_runtimes_own());
        if !counts_agree(own.count(), h.count, 0.01, 5) {
            wrong.push(format!(
                "the runtime sampled {} waits, gmpscope saw {}",
                own.count(),
                h.count
            ));
        }
        // With a handful of values a quantile may be any of them.
        if own.count() >= 50 && (self.is_the_runtimes_own() || !self.emulated) {
            wrong.extend(
                QUANTILES
                    .into_iter()
                    .filter_map(|q| self.sampled_quantile(&own, q)),
            );
        }
        wrong
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

    fn exact(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let c = &self.capture.capture;
        let all = c.events + c.lost_events;
        if all > 0 && (c.events as f64) < 0.999 * all as f64 {
            wrong.push(format!(
                "only {} of {all} waits paired: {:?}",
                c.events, c.lost_by_cause
            ));
        }
        let by_origin: u64 = self.capture.by_origin.values().map(|h| h.count).sum();
        if by_origin != self.capture.runnable_to_running.count {
            wrong.push(format!(
                "by origin {by_origin}, in all {}",
                self.capture.runnable_to_running.count
            ));
        }
        // Whatever the runtime sampled is among all waits.
        let sampled = self.own.without_zeros().count();
        if c.events + 5 < sampled {
            wrong.push(format!(
                "{} waits, though the runtime's sample alone has {sampled}",
                c.events
            ));
        }
        if let Some(waits) = &self.waits {
            wrong.extend(self.against_trace(waits));
        }
        wrong
    }

    /// Like `exact`, and every transition must be accounted for and the threads followed. What a binary hides from us
    /// is not an error: the capture names it.
    fn full(&self) -> Vec<String> {
        let mut wrong = self.exact();
        let Some(full) = &self.capture.full else {
            wrong.push("nothing of what only full has".into());
            return wrong;
        };
        let model = &full.model;
        if model.seen == 0 || model.seen != model.transitions + model.lost {
            wrong.push(format!(
                "seen in the kernel {}, but delivered {} and dropped {}",
                model.seen, model.transitions, model.lost
            ));
        }
        let notes = self.capture.capture.notes.iter().map(ToString::to_string);
        wrong.extend(notes.filter(|note| note.contains("is not reported")));
        wrong
    }

    fn against_trace(&self, waits: &Waits) -> Vec<String> {
        let mut wrong = Vec::new();
        let h = &self.capture.runnable_to_running;
        let syscalls = self
            .capture
            .by_origin
            .get(&ByName(Origin::Syscall))
            .map_or(0, |h| h.count);
        let waits = &waits.without_artefacts(syscalls);
        if !counts_agree(waits.count, h.count, 0.005, 2) {
            wrong.push(format!(
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
                wrong.push(format!("no p{}", q * 100.0));
                continue;
            };
            // The counts may differ by 0.5 %, and so may the ranks.
            let (least, most) = (waits.quantile(q - 0.005), waits.quantile(q + 0.005));
            let bucket = ours - low;
            let distance = low.saturating_sub(most).max(least.saturating_sub(ours));
            if waits.count >= 50 && distance > bucket.max(2 * cost) {
                wrong.push(format!(
                    "p{}: runtime/trace has {least} to {most} ns, gmpscope {low}..{ours} ns; a bucket is \
                     {bucket}, twice a hit {} ns",
                    q * 100.0,
                    2 * cost
                ));
            }
        }
        let off = share_off(&waits.latencies_ns, h, 1_000_000);
        if off > 0.005 {
            wrong.push(format!(
                "{:.2} % of the waits differ by more than 1 ms",
                off * 100.0
            ));
        }
        wrong
    }
}
