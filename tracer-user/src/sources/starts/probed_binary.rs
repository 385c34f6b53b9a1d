//! One binary of the daemon's in its slot of the kernel's tables: probes on the starts of its processes, and their
//! counters.

use std::{fs::File, sync::Arc};

use tracer_ebpf::{
    Counters, SiteKey, TargetConfig,
    start::{Mark, StartEvent},
};

use super::{
    marks,
    named::{Functions, Named},
};
use crate::{
    bpf::{
        Kernel, ProgramKind, Scope,
        attach::{self, Probes},
        linker::Linker,
        maps,
    },
    error::Result,
    plan::start::StartPlan,
    stream::{Event, Kind, Observation},
};

/// The number that [`Named`] has for the only binary.
const ONLY: u32 = 0;

/// Probes on the starts of a binary.
pub struct ProbedBinary {
    slot: u32,
    /// Probes in every process that maps the file, if that was asked for.
    probes: Option<Probes>,
    /// If not, what attaches to single processes.
    linker: Option<Arc<Linker>>,
    /// Keys of the sites, where there are no cookies.
    keys: Vec<SiteKey>,
    counted: Counters,
    /// The processes and functions that marks are about.
    pub named: Named,
}

impl ProbedBinary {
    /// Prepares the sites of `plan` that a process executes once, and if `is_whole` is set, attaches to them in every
    /// process that maps the file.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn attach(
        kernel: &mut Kernel,
        slot: u32,
        file: &File,
        plan: &StartPlan,
        is_whole: bool,
    ) -> Result<Self> {
        maps::clear_counters(&mut kernel.ebpf, slot)?;
        let config = TargetConfig {
            enabled: 1,
            ..TargetConfig::default()
        };
        maps::configure_target(&mut kernel.ebpf, slot, config)?;
        let points = marks::points(plan, &plan.once(), slot, 0);
        let keys = attach::keys_by_ip(ProgramKind::Mark, &points, Scope::Binary);
        let (probes, linker) = if is_whole {
            let probes = marks::attach(kernel, &points, slot, Scope::Binary, file)?;
            (Some(probes), None)
        } else {
            let linker = Linker::new(kernel, ProgramKind::Mark, points, slot, file)?;
            (None, Some(Arc::new(linker)))
        };
        // The kernel side counts neither time off the CPU nor page faults here.
        let mut named = Named::new(false);
        named.add(ONLY, plan.entry);
        Ok(Self {
            slot,
            probes,
            linker,
            keys,
            counted: Counters::default(),
            named,
        })
    }

    /// Turns marks into observations, with the names of the functions that they are about.
    pub fn marks(&mut self, marks: &[StartEvent], functions: &dyn Functions) -> Vec<Observation> {
        let marks = self.named.marks(marks, |_| ONLY, functions);
        let observations = marks.into_iter().map(|(at_ns, mark)| Observation {
            at_ns,
            kind: Kind::Event(Event::StartMark(mark)),
        });
        observations.collect()
    }

    /// Hits and losses since the last call.
    ///
    /// # Errors
    /// The kernel's table cannot be read.
    pub fn counts(&mut self, kernel: &mut Kernel, now_ns: u64) -> Result<Vec<Observation>> {
        marks::new_counts(kernel, self.slot, &mut self.counted, now_ns)
    }

    /// What attaches to single processes of the binary.
    pub fn linker(&self) -> Option<&Arc<Linker>> {
        self.linker.as_ref()
    }

    /// Takes the probes out, to be dropped; see [`Probes`] for how long that takes.
    pub fn take_probes(&mut self) -> (Option<Probes>, Vec<SiteKey>) {
        (self.probes.take(), std::mem::take(&mut self.keys))
    }
}

/// Whether this is the last mark of a process's start.
pub fn is_last(event: &StartEvent) -> bool {
    Mark::from_u32(event.mark).is_some_and(Mark::is_last)
}
