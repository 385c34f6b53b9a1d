//! Binaries whose starts are timed, whoever starts them.

use std::fs::File;

use tracer_ebpf::start::StartConfig;

use super::{HostKernel, SlotId, Started, Starting, detached, leaving::Remains};
use crate::{
    error::{Error, Result},
    plan::start::StartPlan,
    sources::{
        probes::{Scope, maps},
        starts::{
            Functions,
            binary::{Binary, is_last},
            configure_marks,
        },
    },
    stream::{Kind, Loss, LossCause, Observation},
};

/// Whose starts to time.
#[derive(Clone, Copy, Debug)]
pub struct StartsRequest<'a> {
    /// The file that the sites were found in.
    pub file: &'a File,
    /// The sites; those are probed that are executed once in a process.
    pub plan: &'a StartPlan,
}

impl HostKernel {
    /// Times the starts of a binary, in all its processes to come. While there is one, every `execve` and every end of a
    /// thread of the host runs a short program more.
    ///
    /// # Errors
    /// As [`Self::attach`]. On kernels without attach cookies (before 5.15) only one binary can be had at a time.
    pub fn attach_starts(&mut self, request: &StartsRequest<'_>) -> Result<SlotId> {
        if !aya::features().bpf_cookie() && !self.binaries.is_empty() {
            return Err(Error::not_permitted(
                "this kernel has no attach cookies (they came with 5.15), and without them the starts of only one \
                 binary can be timed at once",
            ));
        }
        let id = self.take_slot(false)?;
        let attached = self.attach_binary(id, request);
        if attached.is_err() {
            self.slots.give_back(id.index);
            self.forget_points();
        }
        attached.map(|()| id)
    }

    fn attach_binary(&mut self, id: SlotId, request: &StartsRequest<'_>) -> Result<()> {
        if self.points.is_empty() {
            let config = StartConfig {
                entry: request.plan.entry,
                every_exec: 1,
                ..StartConfig::default()
            };
            configure_marks(&mut self.kernel, config)?;
            // The nearest to the entry of execve; it came with Linux 6.11.
            match self
                .kernel
                .attach_point("sched_prepare_exec", "sched_prepare_exec")
            {
                Ok(point) => self.points.push(point),
                Err(e) => log::info!("{e}: a start counts from sched_process_exec"),
            }
            for name in ["sched_process_exec", "sched_process_exit"] {
                self.points.push(self.kernel.attach_point(name, name)?);
            }
        }
        let sites = request.plan.once();
        let binary = Binary::attach(
            &mut self.kernel,
            id.index,
            request.file,
            request.plan,
            &sites,
            Scope::Binary,
            false,
        )?;
        let started = Started {
            id,
            binary,
            marks: Vec::new(),
            lost: 0,
        };
        self.binaries.insert(id.index, started);
        Ok(())
    }

    /// What was seen of the starts of a binary since the last call: marks of each process, in the order of time, hits and
    /// losses. Processes of other programs are left out.
    ///
    /// # Errors
    /// It was detached, or a table of the kernel's cannot be read.
    pub fn observe_starts(
        &mut self,
        slot: SlotId,
        now_ns: u64,
        functions: &dyn Functions,
    ) -> Result<Vec<Observation>> {
        self.read_ring();
        self.forget_others(now_ns);
        let started = self
            .binaries
            .get_mut(&slot.index)
            .filter(|started| started.id == slot);
        let started = started.ok_or_else(|| detached(slot))?;
        let marks = std::mem::take(&mut started.marks);
        let mut seen = started.binary.marks(&marks, functions);
        for event in marks.iter().filter(|event| is_last(event)) {
            started.binary.named.forget(event.tgid);
        }
        seen.sort_by_key(|observation| observation.at_ns);
        seen.extend(started.binary.counts(&mut self.kernel, now_ns)?);
        let lost = std::mem::take(&mut started.lost);
        if lost > 0 {
            let loss = Loss {
                cause: LossCause::StartsLost,
                count: lost,
            };
            seen.push(Observation {
                at_ns: now_ns,
                kind: Kind::Loss(loss),
            });
        }
        Ok(seen)
    }

    /// Takes the probes of a binary away, as [`Self::detach`] does.
    ///
    /// # Errors
    /// It was detached before.
    pub fn detach_starts(&mut self, slot: SlotId) -> Result<()> {
        let is_it = self
            .binaries
            .get(&slot.index)
            .is_some_and(|started| started.id == slot);
        let started = is_it.then(|| self.binaries.remove(&slot.index)).flatten();
        let (probes, keys) = started.ok_or_else(|| detached(slot))?.binary.take_probes();
        self.forget_points();
        self.leaving.begin(
            &self.kernel,
            Remains {
                index: slot.index,
                probes,
                keys,
                stamped: false,
            },
        )
    }

    /// Without a binary no other process is to pay anything.
    fn forget_points(&mut self) {
        if self.binaries.is_empty() {
            self.points.clear();
            self.starting = Starting::default();
        }
    }

    /// Processes that called `execve` and run another program make room, here and in the kernel's table.
    fn forget_others(&mut self, now_ns: u64) {
        let others = self.starting.forget_others(now_ns);
        if others.is_empty() {
            return;
        }
        if let Ok(mut table) = maps::starts(&mut self.kernel.ebpf) {
            for tgid in others {
                // It may have ended, or given way to another.
                let _ = table.remove(&tgid);
            }
        }
    }
}
