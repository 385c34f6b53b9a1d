//! Finds and analyses the target that the user asked for: what is known of it, and which modes it allows.

mod names;

use std::{cell::RefCell, collections::BTreeMap, fs::File, os::fd::OwnedFd, sync::Arc};

use tokio::io::unix::AsyncFd;

use super::{Offer, select::select};
use crate::{
    binary::layout::LayoutSource,
    clock::ClockOffset,
    error::{Error, Result},
    escape::Untrusted,
    plan::{
        Attempt, Mode, Program, Site, describe_attempts,
        plugin::{self, PluginSites},
        program::Reading,
    },
    process::{
        Fate, Plugin, Process, Target,
        file::FileId,
        memory::{Memory as _, ProcessMemory},
        modules::{LoadedModule, ModuleList},
        threads::living_thread,
    },
    session::{descriptors::watch, options::AttachOptions},
    sources::{passive::PassiveSource, transitions::SnapshotReader},
    stream::TargetInfo,
};

/// A target that was analysed. Nothing is attached to it.
pub struct Prepared {
    target: Target,
    pid: u32,
    ended: AsyncFd<OwnedFd>,
    /// How far its clock is ahead of the host's, if that could be found.
    clock: Option<ClockOffset>,
    /// The variables that its memory refutes, and what was found in place of each.
    refuted: Vec<String>,
    /// What follows from its file. Of the variables, only those that its memory agrees with.
    pub reading: Reading,
    /// Link-time address of its moduledata, if it can load plugins.
    modules: Option<u64>,
    /// Whether instructions are admitted that the kernel must single-step.
    force: bool,
    /// The plugins that were opened, for the names of their functions.
    plugins: RefCell<Vec<Arc<Plugin>>>,
    /// Names of the creation sites that were looked up, by address; `None`: it has no name.
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
        // After it was found it may have executed another program, which nobody asked for.
        found.check_unchanged(&options.target)?;
        let (target, program) = opened?;
        let memory = ProcessMemory::new(pid.unsigned_abs());
        let live = program.live(&memory, target.load_bias);
        // Another program's memory would refute every variable.
        target.unchanged()?;
        let refuted = live.refuted().into_iter().map(|(variable, found)| {
            log::warn!("runtime.{variable} is not where the code says, and is left out: {found}");
            format!(
                "runtime.{variable} is not where the code says ({found}): it is not read, and what follows from it is \
                 missing"
            )
        });
        let refuted = refuted.collect();
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
        let clock = process.clock_offset();
        Ok(Self {
            target,
            pid,
            ended: pidfd,
            clock,
            refuted,
            reading,
            modules: program.modules,
            force: options.force,
            plugins: RefCell::default(),
            names,
        })
    }

    /// Returns the modes, each with the reason if it is not possible.
    pub fn offers(&self) -> Vec<Offer> {
        let passive = self.passive_source().scheme().is_none().then(|| {
            format!(
                "the runtime's own latency histogram (sched.timeToRun) of {} was not found or has an unknown \
                 shape",
                self.version()
            )
        });
        let offers = Mode::ALL.into_iter().map(|mode| {
            let obstacle = match mode.has_probes() {
                true => self.reading.plan.obstacle(mode).or_else(|| match self.clock {
                    Some(_) => None,
                    None => self.reading.plan.clock_obstacle(mode),
                }),
                false => passive.clone(),
            };
            Offer {
                mode,
                obstacle: obstacle.map(Error::not_traceable),
            }
        });
        offers.collect()
    }

    /// Returns the instructions to probe in a mode; none in `passive`.
    ///
    /// # Errors
    /// None was proven to be right: what was tried.
    pub fn sites(&self, mode: Mode) -> std::result::Result<&[Site], &[Attempt]> {
        self.reading.plan.sites(mode)
    }

    /// Whether it can load plugins.
    pub fn loads_plugins(&self) -> bool {
        self.modules.is_some()
    }

    /// Reads which modules were loaded after the one whose moduledata is at `last`; `None`: after the program.
    ///
    /// # Errors
    /// The runtime's list cannot be read.
    pub fn modules_after(&self, last: Option<u64>) -> Result<Vec<LoadedModule>> {
        let Some(first) = self.modules else {
            return Ok(Vec::new());
        };
        let layout = self
            .reading
            .layout
            .as_ref()
            .map_err(|e| Error::not_traceable(e.to_string()))?;
        let list = ModuleList::new(first.wrapping_add(self.bias()), &layout.0.moduledata);
        Ok(list.after(&ProcessMemory::new(self.pid), last)?)
    }

    /// Opens a plugin, and finds what is to be probed in it. Returns its path, too.
    ///
    /// # Errors
    /// It cannot be read, or no place to attach to was proven.
    pub fn open_plugin(
        &self,
        module: &LoadedModule,
        mode: Mode,
        syscalls: bool,
    ) -> (Untrusted, Result<(Arc<Plugin>, PluginSites)>) {
        let process = match process_of(&self.target) {
            Ok(process) => process,
            Err(e) => return (Untrusted::default(), Err(e)),
        };
        let version = &self.target.facts.version;
        let (path, opened) = Plugin::open(process, module, version, |binary| {
            let (layout, minor) = (self.reading.layout(), self.minor());
            // Names are found in it in any case.
            Ok(plugin::sites(binary, layout, minor, mode, syscalls, self.force))
        });
        let opened = opened.and_then(|(plugin, sites)| {
            let plugin = Arc::new(plugin);
            self.plugins.borrow_mut().push(Arc::clone(&plugin));
            // Some of those without a name may have one in it.
            self.names.borrow_mut().retain(|_, name| name.is_some());
            let sites = sites.map_err(|attempts| {
                Error::not_traceable(format!(
                    "no place to attach to was proven: {}",
                    describe_attempts(&attempts)
                ))
            })?;
            Ok((plugin, sites))
        });
        (path, opened)
    }

    /// Returns a reader of the runtime's histogram and gauges.
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
        .with_clock(self.clock)
    }

    /// Returns how far its clock is ahead of the host's, if that could be found.
    pub fn clock(&self) -> Option<ClockOffset> {
        self.clock
    }

    /// Returns a reader of every goroutine, P and M; `None` where the layout is not known.
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

    /// Whether preemption can be distinguished from a goroutine that yields.
    pub fn knows_preemption(&self) -> bool {
        self.reading.layout().is_some_and(|layout| layout.g.preempt != 0)
    }

    /// Whether `full` sees the end of each GC assist.
    pub fn sees_assists(&self) -> bool {
        self.reading
            .plan
            .full
            .as_ref()
            .is_ok_and(|full| full.sees_assists())
    }

    /// Returns Go's minor version: 27 for Go 1.27.3.
    pub fn minor(&self) -> u32 {
        self.target.facts.version.minor
    }

    /// Returns the file that was analysed.
    pub fn file(&self) -> &File {
        self.target.file.file()
    }

    /// Returns the identity of the file that was analysed.
    pub fn file_id(&self) -> FileId {
        self.target.file.id()
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns when it was started, in clock ticks as in /proc/PID/stat.
    pub fn start_time(&self) -> u64 {
        self.target.process.as_ref().map_or(0, Process::start_time)
    }

    /// Returns the difference of run-time and link-time addresses.
    pub fn bias(&self) -> u64 {
        self.target.load_bias
    }

    /// Returns the version of Go that built it.
    pub fn version(&self) -> &str {
        &self.target.facts.version.raw
    }

    /// Reads the CPU time of the whole process so far, in nanoseconds; `None` once it has ended.
    pub fn cpu_ns(&self) -> Option<u64> {
        self.target.process.as_ref()?.cpu_time_ns().ok()
    }

    /// Reads the length of `allgs`: how many g structs there are.
    pub fn goroutines(&self) -> Option<u64> {
        let allgs = self.reading.globals.allgs?.wrapping_add(self.bias());
        ProcessMemory::new(self.pid).read_u64(allgs.wrapping_add(8)).ok()
    }

    /// Resolves when the process has ended.
    pub async fn ended(&self) {
        // If the watch itself fails, the next reading fails, too.
        let _ = self.ended.readable().await;
    }

    /// Returns `error`, or instead of it that the process has ended or executed another program meanwhile.
    pub fn explain(&self, error: Error) -> Error {
        self.target.explain(error)
    }

    /// Checks that the process still runs the program that was analysed.
    ///
    /// # Errors
    /// It has executed another one, or ended.
    pub fn unchanged(&self) -> Result<()> {
        self.target.unchanged()
    }

    /// Returns whether the process still runs the program that was analysed, executed another one, or ended.
    pub fn fate(&self) -> Fate {
        let file = self.target.file.id();
        self.target
            .process
            .as_ref()
            .map_or(Fate::Ended, |process| process.fate(Some(file)))
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        self.target.process.as_ref().is_none_or(Process::has_ended)
    }

    /// Whether the process is running another program now.
    pub fn has_execed(&self) -> bool {
        !self.has_ended() && matches!(self.target.still_runs(), Ok(false))
    }

    /// Describes it for the capture.
    pub fn info(&self) -> TargetInfo {
        let unproven = self.reading.unproven_layout(&self.target.facts.version);
        TargetInfo {
            layout: unproven.map(Untrusted::from),
            ..info(&self.target, self.pid)
        }
    }

    /// Returns remarks about it for a reader of the figures.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.reading.layout {
            Ok((_, LayoutSource::Table)) => {}
            Ok((_, source)) => notes.push(format!(
                "struct layouts of the runtime: {}",
                source.describe(&self.target.facts.version)
            )),
            Err(e) => notes.push(e.to_string()),
        }
        notes.extend(self.refuted.iter().cloned());
        match self.clock {
            Some(ClockOffset::NONE) => {}
            Some(offset) => notes.push(format!(
                "the process is in a time namespace: its monotonic clock is {:.3} s {} the host's, which all times here \
                 are of",
                offset.ns().unsigned_abs() as f64 / 1e9,
                if offset.ns() < 0 { "behind" } else { "ahead of" },
            )),
            None => notes.push(
                "the process is in a time namespace whose offset cannot be found: times in its memory are left out"
                    .to_owned(),
            ),
        }
        if living_thread(self.pid).is_some_and(|thread| thread != self.pid) {
            notes.push(
                "the first thread of the process has ended: it is read and probed through another one"
                    .to_owned(),
            );
        }
        notes
    }
}

/// Describes a program and, where there is one, its process for a capture.
pub(in crate::session) fn info(target: &Target, pid: u32) -> TargetInfo {
    let facts = &target.facts;
    TargetInfo {
        pid,
        exe: target.file.name().clone(),
        go_version: facts.version.raw.trim_start_matches("go").into(),
        layout: None,
        arch: facts.arch.name().into(),
        build_mode: facts.build_mode.name().into(),
        stripped: facts.stripped,
        cgo: Some(facts.cgo),
        pgo: Some(facts.pgo),
        gomaxprocs: None,
        cgroup_cpu_limit: target.process.as_ref().and_then(Process::cgroup_cpu_limit),
        clock_offset_ns: target
            .process
            .as_ref()
            .and_then(Process::clock_offset)
            .map(ClockOffset::ns)
            .filter(|ns| *ns != 0),
    }
}

fn process_of(target: &Target) -> Result<&Process> {
    target
        .process
        .as_ref()
        .ok_or_else(|| Error::failed("a process was asked for, and a file was opened"))
}
