//! Starts of a program: the moments between `execve` and `main.main`, and the system calls that were slow on
//! the way, as the kernel side sends them one by one.

pub(in crate::sources) mod binary;
mod calls;
mod named;
mod opened;
mod task;

use std::{fs::File, time::Duration};

use aya::{
    maps::{MapData, RingBuf},
    programs::raw_trace_point::RawTracePointLink,
};
use tracer_ebpf::start::{Call, CallEvent, StartConfig, StartEvent};

pub use self::named::Functions;
pub(in crate::sources) use self::task::TaskOffsets;
use self::{binary::Binary, opened::Opened};
use super::probes::{Capacity, Kernel, LinkKind, Scope, kernel, maps, ring};
use crate::{
    error::{Error, Result},
    plan::start::{MarkSite, StartPlan},
    stream::{Event, Kind, Observation, start::StartCall},
};

/// The only binary of a capture has the first slot of each table.
const SLOT: u32 = 0;

/// Whose starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of one process that is held before its execve: every site, and its system calls.
    Held(u32),
    /// Of processes that are held one after the other: what is executed once, and their system calls.
    HeldInTurn,
    /// Of whichever process: what is executed once.
    Any,
}

/// What to attach where.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Whose starts.
    pub whose: Whose,
    /// The file that the sites were found in.
    pub file: &'a File,
    /// The sites.
    pub plan: &'a StartPlan,
    /// System calls of at least so long are told.
    pub slow_call: Duration,
}

/// What is attached for starts, and what of it was read.
pub struct StartSource {
    kernel: Kernel,
    binary: Binary,
    points: Vec<RawTracePointLink>,
    ring: RingBuf<MapData>,
    opened: Opened,
    times_threads: Option<String>,
}

impl StartSource {
    /// Loads the kernel side and attaches. All is live when this returns.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn attach(request: &Request<'_>) -> Result<Self> {
        let mut kernel = Kernel::load(Capacity::ONE)?;
        let sites: Vec<MarkSite> = match request.whose {
            Whose::Held(_) => request.plan.sites.clone(),
            Whose::HeldInTurn | Whose::Any => request.plan.once(),
        };
        let (offsets, times_threads) = match TaskOffsets::of_kernel() {
            Ok(offsets) => (offsets, None),
            Err(why) => (TaskOffsets::default(), Some(why)),
        };
        configure(&mut kernel, request, offsets)?;
        let ring = kernel.take_ring("EVENTS")?;
        let scope = match request.whose {
            Whose::Held(pid) => Scope::process(pid)?,
            Whose::HeldInTurn | Whose::Any => Scope::Binary,
        };
        let binary = Binary::attach(
            &mut kernel,
            SLOT,
            request.file,
            request.plan,
            &sites,
            scope,
            times_threads.is_none(),
        )?;
        kernel::trim_heap();
        let mut source = Self {
            kernel,
            binary,
            points: Vec::new(),
            ring,
            opened: Opened::new(nanoseconds(request.slow_call)),
            times_threads,
        };
        source.attach_points(request.whose)?;
        if let Whose::Held(pid) = request.whose {
            source.hold(pid)?;
        }
        Ok(source)
    }

    fn attach_points(&mut self, whose: Whose) -> Result<()> {
        let mut wanted = vec!["sched_process_exec", "sched_process_exit"];
        if self.times_threads.is_none() {
            wanted.push("sched_switch");
        }
        if whose == Whose::Any {
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

    /// How many instructions are probed.
    pub fn sites(&self) -> usize {
        self.binary.sites()
    }

    /// How the probes are held.
    pub fn link_kind(&self) -> Option<LinkKind> {
        self.binary.link_kind()
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
        let marks = self.binary.marks(&marks, functions);
        for observation in &mut seen {
            if let Kind::Event(Event::StartCall(call)) = &mut observation.kind {
                call.pid = self.binary.named.pid_of(call.pid);
            }
        }
        seen.extend(marks);
        seen.sort_by_key(|observation| observation.at_ns);
        seen.extend(self.binary.counts(&mut self.kernel, now_ns)?);
        Ok(seen)
    }

    /// The system call of the main thread of a process that has not returned yet, if it is in one.
    ///
    /// # Errors
    /// The kernel's table cannot be opened.
    pub fn unfinished(&mut self, pid: u32, now_ns: u64) -> Result<Option<Observation>> {
        let tgid = self.binary.named.tgid_of(pid);
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

    /// Takes everything away; see [`super::probes::attach::Probes`] for how long that takes.
    pub fn detach(&mut self) {
        self.points.clear();
        drop(self.binary.take_probes());
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn configure(kernel: &mut Kernel, request: &Request<'_>, offsets: TaskOffsets) -> Result<()> {
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let config = StartConfig {
        entry: request.plan.entry,
        slow_call_ns: nanoseconds(request.slow_call),
        every_exec: u32::from(request.whose == Whose::Any),
        task_pid: offsets.pid,
        task_state: offsets.state,
        task_minor_faults: offsets.minor_faults,
        task_major_faults: offsets.major_faults,
        execve: number(libc::SYS_execve),
        execveat: number(libc::SYS_execveat),
        ..StartConfig::default()
    };
    configure_marks(kernel, config)?;
    let mut kinds = maps::call_kinds(&mut kernel.ebpf)?;
    for (number, kind) in calls::kinds() {
        kinds
            .insert(number, kind, 0)
            .map_err(maps::context("write", "CALL_KINDS"))?;
    }
    Ok(())
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
