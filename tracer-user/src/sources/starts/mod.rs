//! Starts of a program: the moments between `execve` and `main.main`, and the system calls that were slow on
//! the way, as the kernel side sends them one by one.

pub(in crate::sources) mod binary;
mod calls;
pub mod gate;
pub(in crate::sources) mod links;
mod named;
mod opened;
mod probed;
pub(in crate::sources) mod task;

use std::{fs::File, sync::Arc, time::Duration};

use aya::{
    maps::{MapData, RingBuf},
    programs::raw_trace_point::RawTracePointLink,
};
use tracer_ebpf::{
    Counters, TargetConfig,
    start::{Call, CallEvent, MAX_BINARIES, MAX_TREE, Mark, StartConfig, StartEvent, exec},
};

pub use self::named::Functions;
pub(in crate::sources) use self::named::own_pid;
pub(in crate::sources) use self::task::TaskOffsets;
use self::{
    gate::{Asker, Gate, Missed, Questions, WatchedFile},
    links::{Bound, Linked, Links},
    named::Named,
    opened::Opened,
    probed::{How, Probed},
};
use crate::{
    bpf::{
        Capacity, Kernel, ProgramKind, Scope,
        attach::{self, LinkKind, Point},
        kernel,
        linker::Linker,
        maps, ring,
    },
    clock::now_ns,
    error::{Error, Result},
    plan::start::{MarkSite, StartPlan},
    process::file::{FileId, FileState},
    stream::{
        Event, Kind, Loss, LossCause, Observation,
        start::{StartCall, StartHeld},
    },
};

/// The counters' slot.
const SLOT: u32 = 0;
const _: () = assert!(MAX_BINARIES < tracer_ebpf::MAX_TARGETS);

/// Whose starts. But for [`Self::Any`], each is seen by probes that are bound to its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of one process that is held before its execve: every site, and its system calls.
    Held(u32),
    /// Of processes that are held one after the other: the same of each.
    HeldInTurn,
    /// Of processes that are held, and of all that descend from them: what is executed once, and their system calls.
    Tree,
    /// Of whichever process executes a certain file, held by the gate: what is executed once.
    Next,
    /// Of whichever process: what is executed once. The probes are in every process that maps the file privately,
    /// whether it runs it or only reads it.
    Any,
}

impl Whose {
    /// What the kernel side follows beside processes that are held before their execve.
    fn every_exec(self) -> u32 {
        match self {
            Self::Held(_) | Self::HeldInTurn | Self::Tree => exec::HELD,
            Self::Next => exec::GATED,
            Self::Any => exec::EVERY,
        }
    }
}

/// A program whose starts are traced.
#[derive(Clone, Copy, Debug)]
pub struct Binary<'a> {
    /// The file that the sites were found in.
    pub file: &'a File,
    /// The sites.
    pub plan: &'a StartPlan,
}

/// What is attached for starts, and what of it was read.
pub struct StartSource {
    kernel: Kernel,
    whose: Whose,
    probed: Probed,
    points: Vec<RawTracePointLink>,
    gate: Option<Gate>,
    links: Links,
    missed: Arc<Missed>,
    ring: RingBuf<MapData>,
    counted: Counters,
    named: Named,
    opened: Opened,
    times_threads: Option<String>,
}

impl StartSource {
    /// Loads the kernel side, and attaches what is not of one binary. System calls of at least `slow_call` are told.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn load(whose: Whose, slow_call: Duration) -> Result<Self> {
        let mut kernel = Kernel::load(match whose {
            Whose::Tree => Capacity {
                // Each binary has a slot in the table of sites.
                targets: MAX_BINARIES,
                processes: MAX_TREE,
                ..Capacity::ONE
            },
            _ => Capacity::ONE,
        })?;
        let (offsets, times_threads) = match TaskOffsets::of_kernel() {
            Ok(offsets) => (offsets, None),
            Err(why) if whose == Whose::Tree => {
                return Err(Error::not_permitted(format!(
                    "--follow must know which process makes which: {why}"
                )));
            }
            Err(why) => (TaskOffsets::default(), Some(why)),
        };
        configure(&mut kernel, whose, slow_call, offsets)?;
        let ring = kernel.take_ring("EVENTS")?;
        let mut source = Self {
            kernel,
            whose,
            probed: Probed::default(),
            points: Vec::new(),
            gate: None,
            links: Links::new(),
            missed: Arc::default(),
            ring,
            counted: Counters::default(),
            named: Named::new(times_threads.is_none()),
            opened: Opened::new(nanoseconds(slow_call)),
            times_threads,
        };
        source.attach_points(whose)?;
        if let Whose::Held(pid) = whose {
            source.hold(pid)?;
        }
        Ok(source)
    }

    /// Probes a binary, which has this number from here on. All is live when this returns; at the gate each process
    /// is given its probes as it executes the binary.
    ///
    /// # Errors
    /// The kernel refuses, or there are too many.
    pub fn probe(&mut self, number: u32, binary: Binary<'_>) -> Result<()> {
        let slot = self.probed.free_slot()?;
        self.tell_entry(slot, binary.plan.entry)?;
        let points = self.points_of(binary, slot);
        let sites = points.len();
        let path = attach::path_of(binary.file);
        let scope = match self.whose {
            Whose::Held(pid) => Scope::process(pid)?,
            _ => Scope::Binary,
        };
        let keys = attach::keys_by_ip(ProgramKind::Mark, &points, scope);
        let how = match self.whose {
            Whose::Held(_) | Whose::Any => How::Live(attach::attach(
                &mut self.kernel,
                ProgramKind::Mark,
                &points,
                u32::from(slot),
                scope,
                &path,
            )?),
            Whose::HeldInTurn => {
                return Err(Error::failed(
                    "processes that are held in turn are probed one by one",
                ));
            }
            Whose::Tree | Whose::Next => How::Each(Arc::new(Linker::new(
                &mut self.kernel,
                ProgramKind::Mark,
                points,
                u32::from(slot),
                binary.file,
            )?)),
        };
        self.named.add(number, binary.plan.entry);
        self.probed.add(slot, number, how, sites, keys);
        kernel::trim_heap();
        Ok(())
    }

    /// Probes a process that is held and is to execute a binary, the only one, with this number. The probes of the
    /// process before go meanwhile.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn probe_held(&mut self, number: u32, binary: Binary<'_>, pid: u32) -> Result<()> {
        let slot = match self.probed.slot_of(number) {
            Some(slot) => u16::try_from(slot).unwrap_or_default(),
            None => self.probed.free_slot()?,
        };
        self.tell_entry(slot, binary.plan.entry)?;
        let points = self.points_of(binary, slot);
        let scope = Scope::process(pid)?;
        let path = attach::path_of(binary.file);
        let probes = attach::attach(
            &mut self.kernel,
            ProgramKind::Mark,
            &points,
            u32::from(slot),
            scope,
            &path,
        )?;
        if self.probed.slot_of(number).is_none() {
            let keys = attach::keys_by_ip(ProgramKind::Mark, &points, scope);
            self.named.add(number, binary.plan.entry);
            self.probed
                .add(slot, number, How::InTurn(probes.kind), points.len(), keys);
            kernel::trim_heap();
        }
        let metadata = binary.file.metadata();
        let metadata = metadata.map_err(|e| Error::failed(format!("the program cannot be examined: {e}")))?;
        self.links.clear_soon();
        self.links.add(Linked {
            job: 0,
            pid,
            slot: u32::from(slot),
            file: FileId::of(&metadata),
            since_ns: now_ns(),
            bound: Bound { probes, ticket: None },
        });
        Ok(())
    }

    /// What is probed of a binary, for its slot.
    fn points_of(&self, binary: Binary<'_>, slot: u16) -> Vec<Point> {
        let sites: Vec<MarkSite> = match self.whose {
            Whose::Held(_) | Whose::HeldInTurn => binary.plan.sites.clone(),
            Whose::Tree | Whose::Next | Whose::Any => binary.plan.once(),
        };
        let points = sites.iter().map(|site| Point {
            file_offset: site.site.file_offset,
            address: site.site.address,
            site: for_kernel(site, slot, binary.plan.old_tasks),
        });
        points.collect()
    }

    /// Takes the probes of a binary away, those of processes that are on their way too, and waits until they are gone:
    /// its file may have become another program, into which none of its probes may come.
    ///
    /// # Errors
    /// The kernel's table cannot be opened.
    pub fn unprobe(&mut self, number: u32) -> Result<()> {
        if let Some(slot) = self.probed.slot_of(number) {
            self.take_linked();
            self.links.unprobe(slot);
        }
        self.unprobe_soon(number)
    }

    /// The same without waiting, of a binary whose processes have come to their end.
    ///
    /// # Errors
    /// The kernel's table cannot be opened.
    pub fn unprobe_soon(&mut self, number: u32) -> Result<()> {
        let Some(gone) = self.probed.remove(number) else {
            return Ok(());
        };
        let mut table = maps::sites_by_ip(&mut self.kernel.ebpf)?;
        for key in gone.keys() {
            // Hits of probes that are about to go find nothing.
            let _ = table.remove(&maps::Abi(key));
        }
        Ok(())
    }

    /// What attaches to processes of a binary at the gate.
    pub fn linker_of(&self, number: u32) -> Option<Arc<Linker>> {
        self.probed.linker_of(self.probed.slot_of(number)?)
    }

    /// How the kernel side calls a binary that is probed.
    pub fn slot_of(&self, number: u32) -> Option<u32> {
        self.probed.slot_of(number)
    }

    /// Closes the gate: from here on programs that processes of the tree execute are asked about, and wait.
    ///
    /// # Errors
    /// As [`Gate::close`].
    pub fn close_gate(&mut self) -> Result<Questions> {
        let (gate, questions) = self.close_gate_of(Asker::Follow)?;
        let questions = questions.ok_or_else(|| Error::failed("the gate asks nothing"))?;
        self.gate = Some(gate);
        Ok(questions)
    }

    /// Closes the gate for one file alone, that of a binary that is probed ([`Whose::Next`]). `state` is that in which
    /// it was analysed.
    ///
    /// # Errors
    /// As [`Gate::close`] and [`Gate::watch`].
    pub fn close_gate_for(&mut self, number: u32, file: &File, state: FileState) -> Result<()> {
        let missing = || Error::failed("a file is to be watched that is not probed");
        let slot = self.probed.slot_of(number).ok_or_else(missing)?;
        let linker = self.probed.linker_of(slot).ok_or_else(missing)?;
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

    /// Starts that went on without their probes, though they were held for them.
    pub fn missed(&self) -> &Missed {
        &self.missed
    }

    /// The gate, while it is closed.
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.as_ref()
    }

    /// Processes of the tree that live; they are not followed any more.
    ///
    /// # Errors
    /// The kernel's table cannot be read.
    pub fn let_tree_go(&mut self) -> Result<u64> {
        let mut tree = maps::tree(&mut self.kernel.ebpf)?;
        let living: Vec<u32> = tree.keys().filter_map(std::result::Result::ok).collect();
        let gone = living.iter().filter(|tgid| tree.remove(tgid).is_ok()).count();
        Ok(gone as u64)
    }

    fn attach_points(&mut self, whose: Whose) -> Result<()> {
        let mut wanted = vec!["sched_process_exec", "sched_process_exit"];
        if whose == Whose::Tree {
            wanted.push("sched_process_fork");
        }
        if self.times_threads.is_none() {
            wanted.push("sched_switch");
        }
        if matches!(whose, Whose::Any | Whose::Next) {
            // The nearest to the entry of execve that does not make every system call of the host slower.
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

    /// Tells the programs, where they know sites by address, where a binary's ELF entry is.
    fn tell_entry(&mut self, slot: u16, entry: u64) -> Result<()> {
        if self.whose == Whose::Tree {
            return maps::entries(&mut self.kernel.ebpf)?
                .set(u32::from(slot), entry, 0)
                .map_err(maps::context("write", "ENTRIES"));
        }
        let mut table = maps::start_config(&mut self.kernel.ebpf)?;
        let mut config = table.get(&0, 0).map_err(maps::context("read", "START_CONFIG"))?.0;
        config.entry = entry;
        table
            .set(0, maps::Abi(config), 0)
            .map_err(maps::context("write", "START_CONFIG"))
    }

    /// How many instructions are probed.
    pub fn sites(&self) -> usize {
        self.probed.sites()
    }

    /// How the probes are held.
    pub fn link_kind(&self) -> Option<LinkKind> {
        self.probed.link_kind()
    }

    /// Why time off the CPU and page faults are not known, if they are not.
    pub fn without_usage(&self) -> Option<&str> {
        self.times_threads.as_deref()
    }

    /// The next execve of this process, which is held, begins a start.
    ///
    /// # Errors
    /// The kernel's table cannot be written.
    pub fn hold(&mut self, pid: u32) -> Result<()> {
        maps::held(&mut self.kernel.ebpf)?
            .insert(pid, SLOT, 0)
            .map_err(maps::context("write", "HELD"))
    }

    /// No further execve of this process begins a start.
    ///
    /// # Errors
    /// The kernel's table cannot be written.
    pub fn let_go(&mut self, pid: u32) -> Result<()> {
        // One that is not there was never held, or has been let go.
        let _ = maps::held(&mut self.kernel.ebpf)?.remove(&pid);
        Ok(())
    }

    /// What has come since the last call.
    ///
    /// # Errors
    /// A table of the kernel's cannot be read.
    pub fn observe(&mut self, now_ns: u64, functions: &dyn Functions) -> Result<Vec<Observation>> {
        let mut marks = Vec::new();
        let mut seen = Vec::new();
        while let Some(item) = self.ring.next() {
            if let Some(event) = ring::read::<StartEvent>(&item) {
                marks.push(event);
            } else if let Some(event) = ring::read::<CallEvent>(&item) {
                seen.extend(self.opened.returned(&event));
            } else {
                log::warn!(
                    "an event of {} bytes from the kernel is none of a start",
                    item.len()
                );
            }
        }
        self.close_links(&marks, now_ns);
        let marks = self
            .named
            .marks(&marks, |slot| self.probed.number_of(slot), functions);
        for observation in &mut seen {
            if let Kind::Event(Event::StartCall(call)) = &mut observation.kind {
                call.pid = self.named.pid_of(call.pid);
            }
        }
        seen.extend(marks.into_iter().map(|(at_ns, mark)| Observation {
            at_ns,
            kind: Kind::Event(Event::StartMark(mark)),
        }));
        // Behind the ring: what ends a start comes behind the hold in it.
        if let Some(gate) = &self.gate {
            seen.extend(gate.holds().map(|hold| Observation {
                at_ns: hold.until_ns,
                kind: Kind::Event(Event::StartHeld(StartHeld {
                    pid: hold.pid,
                    held_ns: hold.held_ns,
                })),
            }));
        }
        seen.sort_by_key(|observation| observation.at_ns);
        let counters = maps::read_counters(&mut self.kernel.ebpf, SLOT)?;
        let new = counters.since(&self.counted);
        self.counted = counters;
        let lost = new.marks_lost + new.calls_lost + new.tree_full;
        let at = |kind| Observation { at_ns: now_ns, kind };
        if new.hits() > 0 {
            seen.push(at(Kind::Hits(new.hits())));
        }
        if lost > 0 {
            seen.push(at(Kind::Loss(Loss {
                cause: LossCause::StartsLost,
                count: lost,
            })));
        }
        Ok(seen)
    }

    /// Takes over what the gate has linked.
    fn take_linked(&mut self) {
        if let Some(gate) = &self.gate {
            let (linked, late) = gate.linked();
            linked.into_iter().for_each(|linked| self.links.add(linked));
            self.links.late(&late);
        }
    }

    /// Has the probes go of processes whose start has ended.
    fn close_links(&mut self, marks: &[StartEvent], now_ns: u64) {
        // What a mark ends was linked before it came: it is taken over behind the ring.
        self.take_linked();
        for mark in marks.iter().filter(|mark| binary::is_last(mark)) {
            self.links.ended(named::own_pid(mark), mark.at_ns);
        }
        let exited = marks.iter().filter(|mark| mark.mark == Mark::Exited as u32);
        let exited: Vec<u32> = exited.map(named::own_pid).collect();
        for pid in self.links.sweep(now_ns).into_iter().chain(exited) {
            // Of the tree, the kernel side knows by itself who has ended.
            if self.whose == Whose::Next
                && let Err(e) = self.let_go(pid)
            {
                log::warn!("{e}");
            }
        }
    }

    /// The system call of the main thread of a process that has not returned yet, if it is in one.
    ///
    /// # Errors
    /// The kernel's table cannot be opened.
    pub fn unfinished(&mut self, pid: u32, now_ns: u64) -> Result<Option<Observation>> {
        let tgid = self.named.tgid_of(pid);
        // A thread that is in no call has no entry.
        let Ok(call) = maps::calls(&mut self.kernel.ebpf)?.get(&tgid, 0) else {
            return Ok(None);
        };
        let Call {
            at_ns, args, number, ..
        } = call.0;
        Ok(Some(Observation {
            at_ns: now_ns,
            kind: Kind::Event(Event::StartCall(StartCall {
                pid,
                tid: tgid,
                main_thread: true,
                name: calls::name(number),
                on: self.opened.descriptor(tgid, number, args[0]),
                duration_ns: now_ns.saturating_sub(at_ns),
                result: None,
            })),
        }))
    }

    /// Takes everything away; see [`attach::Probes`] for how long that takes.
    pub fn detach(&mut self) {
        // What waits at the gate goes on first.
        if let Some(gate) = self.gate.take() {
            gate.open().into_iter().for_each(|linked| self.links.add(linked));
        }
        self.points.clear();
        self.links.clear();
        self.probed.clear();
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn configure(kernel: &mut Kernel, whose: Whose, slow_call: Duration, offsets: TaskOffsets) -> Result<()> {
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let config = StartConfig {
        slow_call_ns: nanoseconds(slow_call),
        every_exec: whose.every_exec(),
        task_pid: offsets.pid,
        task_state: offsets.state,
        task_minor_faults: offsets.minor_faults,
        task_major_faults: offsets.major_faults,
        execve: number(libc::SYS_execve),
        execveat: number(libc::SYS_execveat),
        task_tgid: offsets.tgid,
        tree: u32::from(whose == Whose::Tree),
        ..StartConfig::default()
    };
    configure_marks(kernel, config)?;
    let target = TargetConfig {
        enabled: 1,
        ..TargetConfig::default()
    };
    maps::targets(&mut kernel.ebpf)?
        .set(SLOT, maps::Abi(target), 0)
        .map_err(maps::context("write", "TARGETS"))?;
    let mut kinds = maps::call_kinds(&mut kernel.ebpf)?;
    for (number, kind) in calls::kinds() {
        kinds
            .insert(number, kind, 0)
            .map_err(maps::context("write", "CALL_KINDS"))?;
    }
    Ok(())
}

fn for_kernel(site: &MarkSite, slot: u16, old_tasks: bool) -> tracer_ebpf::Site {
    tracer_ebpf::Site {
        target: SLOT,
        kind: site.site.kind as u8,
        origin: site.mark as u8,
        gp_in: site.site.gp_in,
        slot: site.site.slot,
        binary: slot,
        // The init task's layout: see the kernel side's `init_function`.
        old_in: u8::from(old_tasks),
        ..tracer_ebpf::Site::default()
    }
}

/// Tells the kernel side of starts what to do, in our own PID namespace.
///
/// # Errors
/// The namespace cannot be examined, or the table not be written.
pub(in crate::sources) fn configure_marks(kernel: &mut Kernel, config: StartConfig) -> Result<()> {
    let (pidns_device, pidns_inode) = own_pid_namespace()?;
    let config = StartConfig {
        pidns_device,
        pidns_inode,
        ..config
    };
    maps::start_config(&mut kernel.ebpf)?
        .set(0, maps::Abi(config), 0)
        .map_err(maps::context("write", "START_CONFIG"))
}

/// Device and inode of our own PID namespace.
///
/// # Errors
/// It cannot be examined.
pub(in crate::sources) fn own_pid_namespace() -> Result<(u64, u64)> {
    let namespace = rustix::fs::stat("/proc/self/ns/pid")
        .map_err(|e| Error::failed(format!("/proc/self/ns/pid cannot be examined: {e}")))?;
    Ok((namespace.st_dev, namespace.st_ino))
}
