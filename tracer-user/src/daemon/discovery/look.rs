//! A look at one process: is it Go, what do the rules say, and how is it watched? Reads files, so it belongs on a
//! thread of its own.

use std::{io::ErrorKind, sync::Arc};

use super::{
    Decision, Looked, Placed, decide,
    looks::Errand,
    programs::{Analysed, Known, Programs},
};
use crate::{
    binary::Globals,
    daemon::config::{Config, Tier},
    error::{Error, Failure},
    escape::Untrusted,
    process::{Life, Process, file::FileState, memory::ProcessMemory, text_of},
    sources::passive::PassiveSource,
};

/// What was seen.
#[derive(Debug)]
pub enum Seen {
    /// It has ended, or has no program (yet, any more, or ever: a thread of the kernel).
    Nothing,
    /// Its program is not Go.
    NotGo,
    /// A Go program that a rule leaves alone.
    Excluded,
    /// A Go program that is to be watched.
    Go(Box<Found>),
    /// A Go program that cannot be watched.
    Refused(Box<Refused>),
    /// It was not looked at, since its file system does not answer.
    Silent(Error),
    /// It could not be looked at: a fixed name for the kind of error, and the error.
    Failed(&'static str, Error),
}

/// A Go process that cannot be watched, and why.
#[derive(Debug)]
pub struct Refused {
    /// The process.
    pub identity: Identity,
    /// Why not.
    pub why: Arc<str>,
}

/// Who a process is, and what the rules say about it.
#[derive(Debug)]
pub struct Identity {
    /// The process, held.
    pub life: Life,
    /// Path of its executable, as it sees it.
    pub exe: Untrusted,
    /// Its cgroup, container and pod.
    pub placed: Placed,
    /// What the rules say.
    pub decision: Decision,
}

/// A Go process that can be watched.
#[derive(Debug)]
pub struct Found {
    /// Who it is.
    pub identity: Identity,
    /// Its program.
    pub known: Arc<Known>,
    /// Which reading of the program holds in its memory, see [`Program::nth`](crate::plan::Program::nth).
    pub nth: usize,
    /// Link-time addresses of the runtime's variables that its memory agrees with.
    pub globals: Globals,
    /// Run-time minus link-time addresses.
    pub bias: u64,
    /// A reader of its memory.
    pub passive: PassiveSource<ProcessMemory>,
}

/// Looks at a process. Also says which file (device, inode) it ran, where that was seen.
pub fn look(
    pid: u32,
    errand: &Errand,
    config: &Config,
    programs: &Programs,
    now_ns: u64,
) -> (Seen, Option<(u64, u64)>) {
    match state(pid) {
        Ok(Some(state)) if !errand.goes_to(state.id.device) => {
            let exe = Some((state.id.device, state.id.inode));
            (Seen::Silent(silent(pid)), exe)
        }
        Ok(Some(state)) => {
            let exe = Some((state.id.device, state.id.inode));
            match look_at(pid, state, config, programs, now_ns) {
                // It is not known what it runs by now: the next scan that finds it looks again.
                Seen::Nothing => (Seen::Nothing, None),
                seen => (seen, exe),
            }
        }
        Ok(None) => (Seen::Nothing, None),
        Err(seen) => (seen, None),
    }
}

/// What is said of a process whose program cannot be looked at, because its file system does not answer.
pub fn silent(pid: u32) -> Error {
    Error::failed(format!(
        "process {pid}: its program lies on a file system that does not answer; it is tried again when that does"
    ))
}

/// What costs one system call: most processes are not Go, and most of those run a program that was seen before.
fn state(pid: u32) -> Result<Option<FileState>, Seen> {
    match FileState::known_at(&format!("/proc/{pid}/exe")) {
        Ok(state) => Ok(Some(state)),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(Seen::Failed(
            "process_not_permitted",
            Error::not_permitted(format!(
                "process {pid}: its program (/proc/{pid}/exe) may not be looked at"
            )),
        )),
        Err(_) => Ok(None),
    }
}

fn look_at(pid: u32, state: FileState, config: &Config, programs: &Programs, now_ns: u64) -> Seen {
    let Ok(id) = i32::try_from(pid) else {
        return Seen::Nothing;
    };
    if programs.file(state, now_ns).is_known_not_go() {
        return Seen::NotGo;
    }
    match look_closer(id, config, programs, now_ns) {
        Ok(seen) => seen,
        Err(e) => match e.failure {
            // It has ended, or started another program; then there will be word of it.
            Failure::NotTraceable => Seen::Nothing,
            Failure::NotPermitted => Seen::Failed("process_not_permitted", e),
            _ => Seen::Failed("process_unreadable", e),
        },
    }
}

fn look_closer(pid: i32, config: &Config, programs: &Programs, now_ns: u64) -> Result<Seen, Error> {
    let process = Process::open(pid)?;
    let file = process.exe().map_err(|e| process.explain(e, None))?;
    let id = file.id();
    let known = programs.file(file.state(), now_ns);
    if !known.is_go(&file) {
        process.unchanged(id)?;
        return Ok(Seen::NotGo);
    }
    let cgroups = text_of(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let placed = Placed::parse(&cgroups);
    let exe = file.name().raw();
    let exe = Untrusted::from(exe.strip_suffix(" (deleted)").unwrap_or(exe));
    let looked = Looked {
        exe: exe.raw(),
        comm: process.comm().raw(),
        uid: process.uid(),
        placed: &placed,
    };
    let decision = decide(config, &looked);
    if decision.tier == Tier::Off {
        return Ok(Seen::Excluded);
    }
    let identity = |process: Process| Identity {
        life: process.into_life(),
        exe,
        placed,
        decision,
    };
    let known = match known.analyse(&file) {
        Analysed::Go(known) => known,
        Analysed::Refused(why) => {
            process.unchanged(id)?;
            let identity = identity(process);
            return Ok(Seen::Refused(Box::new(Refused { identity, why })));
        }
    };
    let bias = match process.load_bias(&file, &known.program.code) {
        Ok(bias) => bias,
        // Its code is there in another way than from its file; or it has just executed another program.
        Err(e) if e.failure == Failure::NotTraceable => {
            process.unchanged(id)?;
            let (identity, why) = (identity(process), e.message.into());
            return Ok(Seen::Refused(Box::new(Refused { identity, why })));
        }
        Err(e) => return Err(process.explain(e, Some(id))),
    };
    let memory = ProcessMemory::new(pid.unsigned_abs());
    let live = known.program.live(&memory, bias);
    // What another program has in its memory refutes everything, and would stay so.
    process.unchanged(id)?;
    for (variable, found) in live.refuted() {
        log::debug!("process {pid}: runtime.{variable} is not where the code says, and is left out: {found}");
    }
    let (layout, minor) = (live.reading.layout().cloned(), known.program.facts.version.minor);
    let passive = PassiveSource::new(memory, &live.globals, bias, layout, minor);
    let (nth, globals) = (live.nth, live.globals);
    Ok(Seen::Go(Box::new(Found {
        identity: identity(process),
        known,
        nth,
        globals,
        bias,
        passive,
    })))
}
