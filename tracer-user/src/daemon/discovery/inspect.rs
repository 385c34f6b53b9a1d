//! Inspects one process: is it Go, what do the rules say, and how is it read? It reads files, which may take long, so
//! it is called on a thread of its own.

use std::{io::ErrorKind, sync::Arc};

use super::{
    Decision, Placement, ProcessFacts, decide,
    in_flight::DeviceCheck,
    programs::{Analysed, AnalysedProgram, Programs},
};
use crate::{
    binary::Globals,
    clock::ClockOffset,
    daemon::config::{Config, Tier},
    error::{Error, Failure},
    escape::Untrusted,
    process::{Life, Process, file::FileState, memory::ProcessMemory, text_of, threads},
    sources::{causes::CauseSampler, passive::PassiveSource},
};

/// The result of an inspection.
#[derive(Debug)]
pub enum Inspected {
    /// It has ended, or has no program (yet, any more, or ever: a kernel thread).
    Nothing,
    /// Its program is not Go.
    NotGo,
    /// A Go program that a rule excludes.
    Excluded,
    /// A Go program that is to be watched.
    Go(Box<Found>),
    /// A Go program that cannot be watched.
    Refused(Box<Refused>),
    /// It was not inspected, since its file system does not answer.
    Silent(Error),
    /// It could not be inspected: the kind of error, a short fixed name, and the error.
    Failed(&'static str, Error),
}

/// A Go process that cannot be watched, and why.
#[derive(Debug)]
pub struct Refused {
    /// The process.
    pub identity: Identity,
    /// Why it cannot be watched.
    pub why: Arc<str>,
}

/// Who a process is, and what the rules say about it.
#[derive(Debug)]
pub struct Identity {
    /// The process, held by its pidfd.
    pub life: Life,
    /// Path of its executable, as it sees it.
    pub exe: Untrusted,
    /// Its cgroup, container and pod.
    pub placement: Placement,
    /// What the rules say.
    pub decision: Decision,
}

/// A Go process that can be watched.
#[derive(Debug)]
pub struct Found {
    /// Which process it is.
    pub identity: Identity,
    /// Its program.
    pub known: Arc<AnalysedProgram>,
    /// Which reading of the program holds in its memory, see [`Program::nth`](crate::plan::Program::nth).
    pub nth: usize,
    /// Link-time addresses of the runtime's variables that its memory agrees with.
    pub globals: Globals,
    /// Run-time minus link-time addresses.
    pub bias: u64,
    /// How far its clock is ahead of the host's, if that could be found.
    pub clock: Option<ClockOffset>,
    /// The variables that its memory refutes, and what was found in place of each.
    pub refuted: Vec<String>,
    /// A reader of its memory.
    pub passive: PassiveSource<ProcessMemory>,
    /// Samples why its goroutines wait; `None` where the layout of the runtime's structs is not known.
    pub causes: Option<CauseSampler<ProcessMemory>>,
}

/// Inspects a process. Also returns the file (device, inode) that it ran, if that was seen.
pub fn inspect(
    pid: u32,
    check: &DeviceCheck,
    config: &Config,
    programs: &Programs,
    now_ns: u64,
) -> (Inspected, Option<(u64, u64)>) {
    match state(pid) {
        Ok(Some(state)) if !check.may_open(state.id.device) => {
            let exe = Some((state.id.device, state.id.inode));
            (Inspected::Silent(silent(pid)), exe)
        }
        Ok(Some(state)) => {
            let exe = Some((state.id.device, state.id.inode));
            match inspect_file(pid, state, config, programs, now_ns) {
                // What it runs now is not known: it is inspected again after the next scan.
                Inspected::Nothing => (Inspected::Nothing, None),
                seen => (seen, exe),
            }
        }
        Ok(None) => (Inspected::Nothing, None),
        Err(seen) => (seen, None),
    }
}

/// The error about a process whose program cannot be read, because its file system does not answer.
pub fn silent(pid: u32) -> Error {
    Error::failed(format!(
        "process {pid}: its program lies on a file system that does not answer; it is tried again when that does"
    ))
}

/// Reads the state of the file that a process runs. This takes one system call, which is enough for most processes:
/// they are not Go, and run a program that was seen before.
fn state(pid: u32) -> Result<Option<FileState>, Inspected> {
    let known_in = |folder: &str| FileState::known_at(&format!("{folder}/exe"));
    let known = known_in(&format!("/proc/{pid}")).or_else(|e| match e.kind() {
        // Its first thread has ended, perhaps alone.
        ErrorKind::NotFound => known_in(&threads::folder(pid)),
        _ => Err(e),
    });
    match known {
        Ok(state) => Ok(Some(state)),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(Inspected::Failed(
            "process_not_permitted",
            Error::not_permitted(format!(
                "process {pid}: its program (/proc/{pid}/exe) may not be looked at"
            )),
        )),
        Err(_) => Ok(None),
    }
}

fn inspect_file(pid: u32, state: FileState, config: &Config, programs: &Programs, now_ns: u64) -> Inspected {
    let Ok(id) = i32::try_from(pid) else {
        return Inspected::Nothing;
    };
    if programs.file(state, now_ns).is_known_not_go() {
        return Inspected::NotGo;
    }
    match inspect_program(id, config, programs, now_ns) {
        Ok(seen) => seen,
        Err(e) => match e.failure {
            // It has ended, or started another program, which will be reported.
            Failure::NotTraceable => Inspected::Nothing,
            Failure::NotPermitted => Inspected::Failed("process_not_permitted", e),
            _ => Inspected::Failed("process_unreadable", e),
        },
    }
}

fn inspect_program(pid: i32, config: &Config, programs: &Programs, now_ns: u64) -> Result<Inspected, Error> {
    let process = Process::open(pid)?;
    let file = process.exe().map_err(|e| process.explain(e, None))?;
    let id = file.id();
    let known = programs.file(file.state(), now_ns);
    if !known.is_go(&file) {
        process.unchanged(id)?;
        return Ok(Inspected::NotGo);
    }
    let cgroups = text_of(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let placement = Placement::parse(&cgroups);
    let exe = file.name().raw();
    let exe = Untrusted::from(exe.strip_suffix(" (deleted)").unwrap_or(exe));
    let facts = ProcessFacts {
        exe: exe.raw(),
        comm: process.comm().raw(),
        uid: process.uid(),
        placement: &placement,
    };
    let decision = decide(config, &facts);
    if decision.tier == Tier::Off {
        return Ok(Inspected::Excluded);
    }
    let identity = |process: Process| Identity {
        life: process.into_life(),
        exe,
        placement,
        decision,
    };
    let known = match known.analyse(&file) {
        Analysed::Go(known) => known,
        Analysed::Refused(why) => {
            process.unchanged(id)?;
            let identity = identity(process);
            return Ok(Inspected::Refused(Box::new(Refused { identity, why })));
        }
    };
    let bias = match process.load_bias(&file, &known.program.code) {
        Ok(bias) => bias,
        // Its code is not mapped from its file, or it has just executed another program.
        Err(e) if e.failure == Failure::NotTraceable => {
            process.unchanged(id)?;
            let (identity, why) = (identity(process), e.message.into());
            return Ok(Inspected::Refused(Box::new(Refused { identity, why })));
        }
        Err(e) => return Err(process.explain(e, Some(id))),
    };
    let memory = ProcessMemory::new(pid.unsigned_abs());
    let live = known.program.live(&memory, bias);
    // If it runs another program now, its memory refutes every variable, and that must not be kept.
    process.unchanged(id)?;
    let refuted = live.refuted().into_iter().map(|(variable, found)| {
        log::debug!("process {pid}: runtime.{variable} is not where the code says, and is left out: {found}");
        format!("runtime.{variable} is not where the code says: {found}")
    });
    let refuted = refuted.collect();
    let clock = process.clock_offset();
    let (layout, minor) = (live.reading.layout().cloned(), known.program.facts.version.minor);
    let sampler = |layout| {
        let (pid, memory) = (pid.unsigned_abs(), ProcessMemory::new(pid.unsigned_abs()));
        let sampler = CauseSampler::new(memory, pid, &live.globals, bias, layout)?;
        Some(sampler.of_go(minor).with_few_files())
    };
    let causes = layout.as_ref().and_then(sampler);
    let passive = PassiveSource::new(memory, &live.globals, bias, layout, minor).with_clock(clock);
    let (nth, globals) = (live.nth, live.globals);
    Ok(Inspected::Go(Box::new(Found {
        identity: identity(process),
        known,
        nth,
        globals,
        bias,
        clock,
        refuted,
        passive,
        causes,
    })))
}
