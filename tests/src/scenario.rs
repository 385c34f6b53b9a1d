//! One measured run: a workload is parked, `gmpscope` attached, the workload released and parked again, so that both
//! saw exactly the same waits.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::again;
use crate::environment::monotonic_ns;
use crate::measured::Measured;
use crate::oracle;
use crate::run::Attach;
use crate::toolchain::Toolchain;
use crate::variant::Variant;
use crate::workload::Workload;

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

    /// Measures, and compares both sides; with `traced` against `runtime/trace` too. If nothing but times differ it is
    /// measured once more, and the summary of all tests counts that: see [`again`].
    ///
    /// # Errors
    /// The disagreements.
    pub fn agrees(&self, mode: &str, traced: bool) -> std::result::Result<Measured, String> {
        let measured = self.compared(mode, traced)?;
        let wrong = measured.disagreements();
        // An emulated machine is so slow that a goroutine of the runtime may still wake in a pause.
        let may_differ = wrong.facts.is_empty() || self.emulated;
        if !may_differ || wrong.all().next().is_none() {
            return measured.verdict().map(|()| measured);
        }
        again::announce(&measured.describe(&wrong));
        let measured = self.compared(mode, traced)?;
        measured.verdict().map(|()| measured)
    }

    fn compared(&self, mode: &str, traced: bool) -> std::result::Result<Measured, String> {
        self.measured(mode, traced)
            .with_context(|| format!("{}, {mode}", self.name()))
            .map_err(|e| format!("{e:#}"))
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
