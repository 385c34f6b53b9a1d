//! From what the user asked for to a target that can be attached to: which process, what is known of it,
//! which modes it allows.

use std::{cell::RefCell, collections::BTreeMap, fs::File, io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

use super::Offer;
use crate::{
    binary::{BuildMode, Frame, layout::LayoutSource},
    error::{Error, Failure, Result},
    escape::Untrusted,
    plan::{Attempt, Mode, Program, Site, program::Reading, told},
    process::{
        self, Fate, Process, Target,
        file::FileId,
        memory::{Memory as _, ProcessMemory},
    },
    session::options::{AttachOptions, TargetSelector},
    sources::{passive::PassiveSource, transitions::SnapshotReader},
    stream::{Symbolizer, TargetInfo},
};

/// A target, analysed. Nothing is attached.
pub struct Prepared {
    target: Target,
    pid: u32,
    ended: AsyncFd<OwnedFd>,
    /// What follows from its file; of the variables those that its memory agrees with.
    pub reading: Reading,
    /// Names of creation sites that were asked for, by address.
    names: RefCell<BTreeMap<u64, Option<Untrusted>>>,
}

impl Prepared {
    /// Finds the process and analyses its program.
    ///
    /// # Errors
    /// No such process, several of them, or one that cannot be traced.
    pub fn new(options: &AttachOptions) -> Result<Self> {
        let found = select(&options.target)?;
        let pid = found.pid;
        let opened = Target::of_process(pid, |_, binary| Ok(Program::of(binary, options.force)));
        // Between the search and the look it may have executed another program, which nobody asked for.
        if let Some(gone) = found.gone(&options.target) {
            return Err(gone);
        }
        let (target, program) = opened?;
        let memory = ProcessMemory::new(pid.unsigned_abs());
        let live = program.live(&memory, target.load_bias);
        // What another program has in its memory refutes everything, and is no news.
        target.unchanged()?;
        for (variable, found) in live.refuted() {
            log::warn!("runtime.{variable} is not where the code says, and is left out: {found}");
        }
        log::debug!("in live memory: {:?}", live.check);
        let reading = Reading {
            globals: live.globals,
            ..live.reading.clone()
        };
        let process = process_of(&target)?;
        let pidfd = process
            .pidfd()
            .try_clone_to_owned()
            .and_then(watch)
            .map_err(|e| Error::failed(format!("could not watch process {pid} for its end: {e}")))?;
        let pid =
            u32::try_from(pid).map_err(|_| Error::usage(format!("{pid} is not the id of a process")))?;
        let names = RefCell::default();
        Ok(Self {
            target,
            pid,
            ended: pidfd,
            reading,
            names,
        })
    }

    /// Which modes can be had, and what stands in the way of the others.
    pub fn offers(&self) -> Vec<Offer> {
        let refuse = |message: String| Error {
            failure: Failure::NotTraceable,
            message,
        };
        let passive = self.passive_source().scheme().is_none().then(|| {
            refuse(format!(
                "the runtime's own latency histogram (sched.timeToRun) of {} was not found or has an unknown \
                 shape",
                self.version()
            ))
        });
        let probes = |mode: Mode| {
            let sites = self.sites(mode);
            sites
                .err()
                .map(|attempts| refuse(format!("no place to attach to was proven: {}", told(attempts))))
        };
        vec![
            Offer {
                mode: Mode::Passive,
                obstacle: passive,
            },
            Offer {
                mode: Mode::Sampled,
                obstacle: probes(Mode::Sampled),
            },
            Offer {
                mode: Mode::Exact,
                obstacle: probes(Mode::Exact),
            },
            Offer {
                mode: Mode::Full,
                obstacle: probes(Mode::Full),
            },
        ]
    }

    /// The instructions to be probed in a mode; none in `passive`.
    ///
    /// # Errors
    /// What was tried.
    pub fn sites(&self, mode: Mode) -> std::result::Result<&[Site], &[Attempt]> {
        match mode {
            Mode::Passive => Ok(&[]),
            Mode::Sampled => match &self.reading.plan.sampled {
                Ok(sampled) => Ok(&sampled.sites),
                Err(attempts) => Err(attempts),
            },
            Mode::Exact => self.reading.plan.exact.as_deref().map_err(Vec::as_slice),
            Mode::Full => match &self.reading.plan.full {
                Ok(full) => Ok(&full.sites),
                Err(attempts) => Err(attempts),
            },
        }
    }

    /// A reader of the runtime's memory.
    pub fn passive_source(&self) -> PassiveSource<ProcessMemory> {
        let layout = self.reading.layout().cloned();
        let memory = ProcessMemory::new(self.pid);
        PassiveSource::new(
            memory,
            &self.reading.globals,
            self.bias(),
            layout,
            self.target.facts.version.minor,
        )
    }

    /// A reader of every goroutine, P and M; `None` where the layout is not known.
    pub fn snapshot_reader(&self) -> Option<SnapshotReader<ProcessMemory>> {
        let layout = self.reading.layout()?;
        let memory = ProcessMemory::new(self.pid);
        Some(SnapshotReader::new(
            memory,
            self.pid,
            &self.reading.globals,
            self.bias(),
            layout.clone(),
        ))
    }

    /// 27 of Go 1.27.3.
    pub fn minor(&self) -> u32 {
        self.target.facts.version.minor
    }

    /// The file that was analysed.
    pub fn file(&self) -> &File {
        self.target.file.file()
    }

    /// Which file that is.
    pub fn file_id(&self) -> FileId {
        self.target.file.id()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it started, as /proc/PID/stat counts.
    pub fn start_time(&self) -> u64 {
        self.target.process.as_ref().map_or(0, Process::start_time)
    }

    /// Run-time minus link-time address.
    pub fn bias(&self) -> u64 {
        self.target.load_bias
    }

    /// The Go that built it.
    pub fn version(&self) -> &str {
        &self.target.facts.version.raw
    }

    /// CPU time of the whole process so far, in nanoseconds; `None` once it has ended.
    pub fn cpu_ns(&self) -> Option<u64> {
        self.target.process.as_ref()?.cpu_time_ns().ok()
    }

    /// Length of `allgs` now: how many g structs there are.
    pub fn goroutines(&self) -> Option<u64> {
        let allgs = self.reading.globals.allgs?.wrapping_add(self.bias());
        ProcessMemory::new(self.pid).read_u64(allgs.wrapping_add(8)).ok()
    }

    /// Resolves when the process has ended.
    pub async fn ended(&self) {
        // An error of the watch itself is found at the next reading.
        let _ = self.ended.readable().await;
    }

    /// `error`, unless it came of the process having ended or executed another program meanwhile.
    pub fn explain(&self, error: Error) -> Error {
        self.target.explain(error)
    }

    /// Nothing, as long as the process runs the program that was analysed.
    ///
    /// # Errors
    /// It has executed another one, or ended.
    pub fn unchanged(&self) -> Result<()> {
        self.target.unchanged()
    }

    /// What has become of the process since it was analysed.
    pub fn fate(&self) -> Fate {
        let file = self.target.file.id();
        self.target
            .process
            .as_ref()
            .map_or(Fate::Ended, |process| process.fate(Some(file)))
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.target.process.as_ref().is_none_or(Process::has_ended)
    }

    /// Whether it lives on as another program.
    pub fn has_execed(&self) -> bool {
        !self.has_ended() && matches!(self.target.still_runs(), Ok(false))
    }

    /// What the capture says of it.
    pub fn info(&self) -> TargetInfo {
        info(&self.target, self.pid)
    }

    /// Things about it that a reader of the figures should know.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.reading.layout {
            Ok((_, LayoutSource::Table)) => {}
            Ok((_, source)) => notes.push(format!("struct layouts of the runtime: {source}")),
            Err(e) => notes.push(e.to_string()),
        }
        notes
    }
}

impl Prepared {
    /// Names of creation sites; `None` where the file cannot be read now, so that it is tried again the next time.
    fn looked_up(&self, gopcs: &[u64]) -> Option<BTreeMap<u64, Untrusted>> {
        let names = self.target.creation_sites(gopcs.iter().copied());
        names
            .inspect_err(|e| log::warn!("no names for creation sites: {e}"))
            .ok()
    }
}

impl Symbolizer for Prepared {
    fn function_at(&self, gopc: u64) -> Option<Untrusted> {
        if let Some(known) = self.names.borrow().get(&gopc) {
            return known.clone();
        }
        // The file is mapped anew each time that unknown addresses come: it is too large to be kept.
        let mut names = self.looked_up(&[gopc])?;
        let found = names.remove(&gopc);
        self.names.borrow_mut().insert(gopc, found.clone());
        found
    }

    fn frames(&self, pcs: &[u64]) -> BTreeMap<u64, Vec<Frame>> {
        self.target
            .frames(pcs)
            .inspect_err(|e| log::debug!("no names for stacks: {e}"))
            .unwrap_or_default()
    }

    fn prepare(&self, gopcs: &[u64]) {
        let unknown: Vec<u64> = {
            let names = self.names.borrow();
            gopcs
                .iter()
                .copied()
                .filter(|pc| *pc != 0 && !names.contains_key(pc))
                .collect()
        };
        if unknown.is_empty() {
            return;
        }
        let Some(mut found) = self.looked_up(&unknown) else {
            return;
        };
        let mut names = self.names.borrow_mut();
        for pc in unknown {
            names.insert(pc, found.remove(&pc));
        }
    }
}

/// What a capture says of a program and, where one runs it, of its process.
pub(in crate::session) fn info(target: &Target, pid: u32) -> TargetInfo {
    let facts = &target.facts;
    TargetInfo {
        pid,
        exe: target.file.name().clone(),
        go_version: facts.version.raw.trim_start_matches("go").into(),
        arch: facts.arch.name().into(),
        build_mode: match facts.build_mode {
            BuildMode::Exe => "exe".into(),
            BuildMode::Pie => "pie".into(),
        },
        stripped: facts.stripped,
        cgo: Some(facts.cgo),
        pgo: Some(facts.pgo),
        gomaxprocs: None,
        cgroup_cpu_limit: target.process.as_ref().and_then(Process::cgroup_cpu_limit),
    }
}

fn process_of(target: &Target) -> Result<&Process> {
    target
        .process
        .as_ref()
        .ok_or_else(|| Error::failed("a process was asked for, and a file was opened"))
}

/// Lets the event loop wait for a pidfd.
#[allow(
    deprecated,
    reason = "the successor is unsafe to call; an OwnedFd stays open as long as it is owned"
)]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// A process that was chosen, and when it was started where that is known.
struct Selected {
    pid: i32,
    start_time: Option<u64>,
}

impl Selected {
    /// The error for a process that was found by a property which it has no longer.
    fn gone(&self, selector: &TargetSelector) -> Option<Error> {
        let still = match selector {
            TargetSelector::Pid(_) => return None,
            TargetSelector::Exe(path) => process::by_exe(path),
            TargetSelector::Comm(name) => process::by_comm(name),
        };
        let is_it =
            |found: &process::Found| found.pid == self.pid && Some(found.start_time) == self.start_time;
        let still = still.is_ok_and(|found| found.iter().any(is_it));
        (!still).then(|| {
            Error::not_traceable(format!(
                "process {} was found, but ended or executed another program before it could be looked at: try again",
                self.pid
            ))
        })
    }
}

/// The one process that is meant.
fn select(selector: &TargetSelector) -> Result<Selected> {
    let (found, what) = match selector {
        TargetSelector::Pid(pid) => {
            let start_time = None;
            return i32::try_from(*pid)
                .map(|pid| Selected { pid, start_time })
                .map_err(|_| Error::usage(format!("{pid} is not the id of a process")));
        }
        TargetSelector::Exe(path) => (process::by_exe(path)?, format!("runs {}", Untrusted::path(path))),
        TargetSelector::Comm(name) => (
            process::by_comm(name)?,
            format!("is named {}", Untrusted::from(name.as_str())),
        ),
    };
    match found.as_slice() {
        [] => Err(Error::not_traceable(format!(
            "no process {what}: `ps -eo pid,comm,args` lists those that there are, and -p PID takes one of them"
        ))),
        [one] => Ok(Selected {
            pid: one.pid,
            start_time: Some(one.start_time),
        }),
        several => {
            let list: String = several
                .iter()
                .map(|found| format!("\n  {:>7}  {}", found.pid, found.comm))
                .collect();
            Err(Error::usage(format!(
                "{} processes {what}; choose one with -p PID:{list}",
                several.len()
            )))
        }
    }
}
