//! Binaries whose starts are timed, whichever process makes them.

use std::{fs::File, sync::Arc};

use tracer_ebpf::start::{StartConfig, exec};

use super::{
    Gated, HostKernel, PendingMarks, SlotId, TimedBinary,
    detaching::DetachedTarget,
    slots::{holder, holder_mut, take_holder},
};
use crate::{
    bpf::maps,
    error::{Error, Result},
    plan::start::StartPlan,
    process::file::FileState,
    sources::starts::{
        Functions, change_marks, configure_marks,
        gate::Missed,
        probed_binary::{ProbedBinary, is_last},
    },
    stream::{Kind, Loss, LossCause, Observation},
};

/// A binary whose starts are to be timed.
#[derive(Clone, Copy, Debug)]
pub struct StartsRequest<'a> {
    /// The file that the sites were found in.
    pub file: &'a File,
    /// The sites, of which those are probed that a process executes once.
    pub plan: &'a StartPlan,
    /// How starts are seen.
    pub by: StartsBy,
}

/// How starts of a binary are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartsBy {
    /// The kernel holds each start until its process has its probes (fanotify). The file was analysed in this state; in
    /// any other, its starts are missed, and counted.
    Holding(FileState),
    /// Probes are in every process that maps the file privately, also where it only reads it: it then reads breakpoints in
    /// place of the file's contents.
    WholeBinary,
}

impl HostKernel {
    /// Times the starts of a binary in all its processes from here on. While there is one, every `execve` and every end
    /// of a thread of the host runs another short program.
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
        let is_whole = request.by == StartsBy::WholeBinary;
        if !is_whole && self.gated.is_none() {
            self.gated = Some(Gated::new(self.kernel.map_fd("HELD")?)?);
        }
        let every = is_whole || self.binaries.values().any(|started| started.held.is_none());
        let config = StartConfig {
            entry: request.plan.entry,
            every_exec: if every { exec::EVERY } else { exec::GATED },
            ..StartConfig::default()
        };
        configure_marks(&mut self.kernel, config)?;
        if self.points.is_empty() {
            // The tracepoint nearest to the entry of execve (Linux 6.11).
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
        let binary = ProbedBinary::attach(&mut self.kernel, id.index, request.file, request.plan, is_whole)?;
        let missed = Arc::new(Missed::default());
        let held = match (request.by, binary.linker(), &self.gated) {
            (StartsBy::Holding(state), Some(linker), Some(gated)) => {
                let (linker, missed) = (Arc::clone(linker), Arc::clone(&missed));
                gated.watch(request.file, state, id.index, linker, missed)?;
                Some(state.id)
            }
            _ => None,
        };
        let started = TimedBinary {
            id,
            binary,
            held,
            missed,
            marks: Vec::new(),
            lost: 0,
        };
        self.binaries.insert(id.index, started);
        Ok(())
    }

    /// Reads what was seen of the starts of a binary since the last call: marks in the order of time, hits and losses.
    /// Processes of other programs are left out.
    ///
    /// # Errors
    /// The binary was detached, or a table of the kernel's cannot be read.
    pub fn observe_starts(
        &mut self,
        slot: SlotId,
        now_ns: u64,
        functions: &dyn Functions,
    ) -> Result<Vec<Observation>> {
        self.read_ring();
        self.forget_others(now_ns);
        let started = holder_mut(&mut self.binaries, slot)?;
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

    /// Starts of a binary that continued without their probes.
    ///
    /// # Errors
    /// The binary was detached.
    pub fn missed_starts(&self, slot: SlotId) -> Result<&Missed> {
        Ok(&holder(&self.binaries, slot)?.missed)
    }

    /// Removes the probes of processes whose start has ended (process, when), and stops following those that have exited:
    /// the kernel side itself only forgets processes that reach `main.main`.
    pub(super) fn close_links(&mut self, ends: &[(u32, u64)], exits: Vec<u32>) {
        let Some(gated) = &mut self.gated else { return };
        let mut gone = gated.close(ends, |slot| self.binaries.contains_key(&slot));
        gone.extend(exits);
        if gone.is_empty() {
            return;
        }
        match maps::held(&mut self.kernel.ebpf) {
            Ok(mut held) => gone.iter().for_each(|pid| {
                // Fails if the process was never held.
                let _ = held.remove(pid);
            }),
            Err(e) => log::warn!("{e}"),
        }
    }

    /// Removes the probes of a binary, as [`Self::detach`] does.
    ///
    /// # Errors
    /// The binary was detached before.
    pub fn detach_starts(&mut self, slot: SlotId) -> Result<()> {
        let mut started = take_holder(&mut self.binaries, slot)?;
        if let (Some(file), Some(gated)) = (started.held, &mut self.gated) {
            gated.unwatch(file, slot.index);
        }
        let (probes, keys) = started.binary.take_probes();
        // Without a whole binary, processes that were not held need not be followed any more.
        if !self.binaries.is_empty() && self.binaries.values().all(|started| started.held.is_some()) {
            self.follow_held_only()?;
        }
        self.forget_points();
        self.detaching.begin(
            &self.kernel,
            DetachedTarget {
                index: slot.index,
                probes,
                keys,
                stamped: false,
            },
        )
    }

    /// Follows only processes that were held at the gate from here on.
    fn follow_held_only(&mut self) -> Result<()> {
        change_marks(&mut self.kernel, |config| config.every_exec = exec::GATED)
    }

    /// Detaches the tracepoints when no binary is left, so that other processes pay nothing.
    fn forget_points(&mut self) {
        if self.binaries.is_empty() {
            drop(self.gated.take());
            self.points.clear();
            self.pending = PendingMarks::default();
        }
    }

    /// Forgets processes that called `execve` and run another program, here and in the kernel's table.
    fn forget_others(&mut self, now_ns: u64) {
        let others = self.pending.forget_others(now_ns);
        if others.is_empty() {
            return;
        }
        if let Ok(mut table) = maps::starts(&mut self.kernel.ebpf) {
            for tgid in others {
                // Fails if the process has ended, or was replaced in the table.
                let _ = table.remove(&tgid);
            }
        }
    }
}
