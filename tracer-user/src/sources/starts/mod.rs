//! Starts of programs: the moments between `execve` and `main.main`, and the slow system calls on the way, as the
//! kernel side sends them one by one.

mod calls;
mod configure;
pub mod gate;
pub(in crate::sources) mod links;
mod marks;
mod named;
mod opened;
pub(in crate::sources) mod probed_binary;
mod probing;
mod reading;
mod slot_table;
pub(in crate::sources) mod task;
mod traced_processes;

use std::{fs::File, sync::Arc, time::Duration};

use aya::{
    maps::{MapData, RingBuf},
    programs::raw_trace_point::RawTracePointLink,
};
use tracer_ebpf::{
    Counters,
    start::{MAX_BINARIES, MAX_TREE},
};

use self::{
    configure::{SLOT, configure, nanoseconds},
    gate::{Asker, Gate, Missed, Questions, WatchedFile},
    links::Links,
    named::Named,
    opened::Opened,
    slot_table::SlotTable,
};
pub(in crate::sources) use self::{
    configure::{change_marks, configure_marks, own_pid_namespace},
    named::own_pid,
    task::TaskOffsets,
};
pub use self::{named::Functions, traced_processes::TracedProcesses};
use crate::{
    bpf::{Capacity, Kernel, LinkKind, maps},
    error::{Error, Result},
    plan::start::StartPlan,
    process::file::FileState,
};

const _: () = assert!(MAX_BINARIES < tracer_ebpf::MAX_TARGETS);

/// A program whose starts are traced.
#[derive(Clone, Copy, Debug)]
pub struct Binary<'a> {
    /// The file that the sites were found in.
    pub file: &'a File,
    /// The sites.
    pub plan: &'a StartPlan,
}

/// The kernel side of starts, loaded and attached, with what was read from it.
pub struct StartSource {
    kernel: Kernel,
    traced: TracedProcesses,
    slots: SlotTable,
    points: Vec<RawTracePointLink>,
    gate: Option<Gate>,
    links: Links,
    missed: Arc<Missed>,
    ring: RingBuf<MapData>,
    counted: Counters,
    named: Named,
    opened: Opened,
    /// Why the kernel side cannot time threads, if so.
    untimed: Option<String>,
}

impl StartSource {
    /// Loads the kernel side, and attaches what does not belong to one binary. System calls of at least `slow_call` are
    /// reported.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn load(traced: TracedProcesses, slow_call: Duration) -> Result<Self> {
        let mut kernel = Kernel::load(match traced {
            TracedProcesses::Tree => Capacity {
                // Each binary has a slot in the table of sites.
                targets: MAX_BINARIES,
                processes: MAX_TREE,
                ..Capacity::ONE
            },
            _ => Capacity::ONE,
        })?;
        let (offsets, untimed) = match TaskOffsets::of_kernel() {
            Ok(offsets) => (offsets, None),
            Err(why) if traced == TracedProcesses::Tree => {
                return Err(Error::not_permitted(format!(
                    "--follow must know which process makes which: {why}"
                )));
            }
            Err(why) => (TaskOffsets::default(), Some(why)),
        };
        configure(&mut kernel, traced, slow_call, offsets)?;
        let ring = kernel.take_ring("EVENTS")?;
        let mut source = Self {
            kernel,
            traced,
            slots: SlotTable::default(),
            points: Vec::new(),
            gate: None,
            links: Links::new(),
            missed: Arc::default(),
            ring,
            counted: Counters::default(),
            named: Named::new(untimed.is_none()),
            opened: Opened::new(nanoseconds(slow_call)),
            untimed,
        };
        source.attach_points(traced)?;
        if let TracedProcesses::Held(pid) = traced {
            source.hold(pid)?;
        }
        Ok(source)
    }

    /// Closes the gate: from here on programs that processes of the tree execute wait, and questions are asked about them.
    ///
    /// # Errors
    /// As [`Gate::close`].
    pub fn close_gate(&mut self) -> Result<Questions> {
        let (gate, questions) = self.close_gate_of(Asker::Follow)?;
        let questions = questions.ok_or_else(|| Error::failed("the gate asks nothing"))?;
        self.gate = Some(gate);
        Ok(questions)
    }

    /// Closes the gate for one file alone, that of a binary that is probed ([`TracedProcesses::Next`]). `state` is the
    /// state in which the file was analysed.
    ///
    /// # Errors
    /// As [`Gate::close`] and [`Gate::watch`].
    pub fn close_gate_for(&mut self, number: u32, file: &File, state: FileState) -> Result<()> {
        let missing = || Error::failed("a file is to be watched that is not probed");
        let slot = self.slots.slot_of(number).ok_or_else(missing)?;
        let linker = self.slots.linker_of(slot).ok_or_else(missing)?;
        let file = file
            .try_clone()
            .map_err(|e| Error::failed(format!("the program's file cannot be kept open: {e}")))?;
        let (gate, _) = self.close_gate_of(Asker::Next)?;
        let missed = Arc::clone(&self.missed);
        gate.watch(WatchedFile {
            file,
            state,
            slot,
            linker,
            missed,
        })?;
        self.gate = Some(gate);
        Ok(())
    }

    fn close_gate_of(&self, asker: Asker) -> Result<(Gate, Option<Questions>)> {
        Gate::close(self.kernel.map_fd("HELD")?, asker, Arc::clone(&self.missed))
    }

    /// Starts that were held, but continued without their probes.
    pub fn missed(&self) -> &Missed {
        &self.missed
    }

    /// The gate, while it is closed.
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.as_ref()
    }

    /// Stops following the processes of the tree that are still running, and returns their number.
    ///
    /// # Errors
    /// The kernel's table cannot be read.
    pub fn unfollow_tree(&mut self) -> Result<u64> {
        let mut tree = maps::tree(&mut self.kernel.ebpf)?;
        let living: Vec<u32> = tree.keys().filter_map(std::result::Result::ok).collect();
        let gone = living.iter().filter(|tgid| tree.remove(tgid).is_ok()).count();
        Ok(gone as u64)
    }

    fn attach_points(&mut self, traced: TracedProcesses) -> Result<()> {
        let mut wanted = vec!["sched_process_exec", "sched_process_exit"];
        if traced == TracedProcesses::Tree {
            wanted.push("sched_process_fork");
        }
        if self.untimed.is_none() {
            wanted.push("sched_switch");
        }
        if matches!(traced, TracedProcesses::Any | TracedProcesses::Next) {
            // The tracepoint nearest to the entry of execve that does not slow down every system call of the host.
            match self.attach_point("sched_prepare_exec") {
                Ok(()) => {}
                Err(e) => log::info!("{e} (it came with Linux 6.11): a start counts from sched_process_exec"),
            }
        } else {
            wanted.extend(["sys_exit", "sys_enter"]);
        }
        wanted.into_iter().try_for_each(|name| self.attach_point(name))
    }

    /// Attaches the program of this name to the tracepoint of the same name.
    fn attach_point(&mut self, name: &str) -> Result<()> {
        self.points.push(self.kernel.attach_point(name, name)?);
        Ok(())
    }

    /// How many instructions are probed.
    pub fn sites(&self) -> usize {
        self.slots.sites()
    }

    /// The kind of link that holds the probes.
    pub fn link_kind(&self) -> Option<LinkKind> {
        self.slots.link_kind()
    }

    /// Why time off the CPU and page faults are not known, if so.
    pub fn without_usage(&self) -> Option<&str> {
        self.untimed.as_deref()
    }

    /// Makes the next execve of this process, which is held, begin a start.
    ///
    /// # Errors
    /// The kernel's table cannot be written.
    pub fn hold(&mut self, pid: u32) -> Result<()> {
        maps::held(&mut self.kernel.ebpf)?
            .insert(pid, SLOT, 0)
            .map_err(maps::context("write", "HELD"))
    }

    /// Ignores further `execve` calls of this process: none of them begins a start.
    ///
    /// # Errors
    /// The kernel's table cannot be written.
    pub fn ignore_execs(&mut self, pid: u32) -> Result<()> {
        // Fails if the process was never held, or is not any more.
        let _ = maps::held(&mut self.kernel.ebpf)?.remove(&pid);
        Ok(())
    }

    /// Removes everything; see [`Probes`](crate::bpf::attach::Probes) for how long that takes.
    pub fn detach(&mut self) {
        // First release what waits at the gate.
        if let Some(gate) = self.gate.take() {
            gate.open().into_iter().for_each(|linked| self.links.add(linked));
        }
        self.points.clear();
        self.links.clear();
        self.slots.clear();
    }
}
