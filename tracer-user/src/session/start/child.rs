//! A command that is held before its execve, by a pipe that it reads from: the process is there and can be
//! attached to, and has not begun.
//!
//! If we die while it is held, the pipe ends, and it goes on untraced.

use std::{
    ffi::OsString,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    thread::JoinHandle,
};

use nix::sys::signal::SigSet;
use rustix::process::{Pid, PidfdFlags};

use super::{descriptor_limit::DescriptorLimit, identity::Identity};
use crate::error::{Error, Failure, Result};
use crate::escape::Untrusted;

/// What is run, and as whom. Standard streams, environment and working directory are ours.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The file that is executed.
    pub program: PathBuf,
    /// What it is called (`argv[0]`).
    pub name: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// As whom, if not as ourselves.
    pub identity: Option<Identity>,
    /// The signals that it is to have blocked: not those that we have.
    pub signal_mask: SigSet,
    /// How many descriptors it may have, if we have changed that for ourselves.
    pub descriptor_limit: Option<DescriptorLimit>,
}

/// Tells the held process to go.
const GO: u8 = b'g';
/// Tells it to end.
const END: u8 = b'e';

/// A command's process.
pub struct Held {
    /// Its id.
    pub pid: u32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    gate: Option<PipeWriter>,
    started: Option<JoinHandle<io::Result<Child>>>,
    program: PathBuf,
}

impl Held {
    /// Makes the process. It waits.
    ///
    /// # Errors
    /// No process can be made.
    pub fn spawn(invocation: &Invocation) -> Result<Self> {
        let failed = |e: io::Error| Error {
            failure: Failure::NotStarted,
            message: format!(
                "no process could be made for {}: {e}",
                Untrusted::path(&invocation.program)
            ),
        };
        let (waits, gate) = io::pipe().map_err(failed)?;
        let (mut reports, report) = io::pipe().map_err(failed)?;
        let mut command = Command::new(&invocation.program);
        command.arg0(&invocation.name).args(&invocation.arguments);
        if let Some(identity) = &invocation.identity {
            command.envs(identity.environment.iter().map(|(name, value)| (name, value)));
        }
        let identity = invocation.identity.clone();
        let (signal_mask, descriptor_limit) = (invocation.signal_mask, invocation.descriptor_limit);
        let gate_number = gate.as_raw_fd();
        // SAFETY: what runs between fork and exec makes system calls only, and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                // Its own copy of the writing end would keep it waiting for ever if we died.
                libc::close(gate_number);
                wait(&waits, &report)?;
                signal_mask.thread_set_mask()?;
                if let Some(limit) = descriptor_limit {
                    limit.apply()?;
                }
                identity.as_ref().map_or(Ok(()), Identity::assume)
            })
        };
        // `spawn` returns when the process has executed its program, so it is waited for elsewhere.
        let started = std::thread::Builder::new()
            .name("command".to_owned())
            .spawn(move || {
                let child = command.spawn();
                // The reporting end is in the closure.
                drop(command);
                child
            })
            .map_err(failed)?;
        let mut pid = [0; 4];
        if reports.read_exact(&mut pid).is_err() {
            // It ended before it could say anything: the thread knows why.
            let why = match started.join() {
                Ok(Err(e)) => e,
                _ => io::Error::other("it ended at once"),
            };
            return Err(failed(why));
        }
        let pid = u32::from_ne_bytes(pid);
        let pidfd = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| failed(io::Error::other("it has no id")))
            .and_then(|pid| {
                rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|e| failed(e.into()))
            })?;
        Ok(Self {
            pid,
            pidfd,
            gate: Some(gate),
            started: Some(started),
            program: invocation.program.clone(),
        })
    }

    /// Lets it execute its program.
    pub fn release(&mut self) {
        self.tell(GO);
    }

    /// Ends it before it executes anything.
    pub fn abort(&mut self) {
        self.tell(END);
    }

    fn tell(&mut self, what: u8) {
        if let Some(mut gate) = self.gate.take() {
            // If it is gone already, its end is found where ends are looked for.
            let _ = gate.write_all(&[what]);
        }
    }

    /// Its status as a shell has it, when [`Self::pidfd`] has said that it has ended.
    ///
    /// # Errors
    /// Its program could not be executed: [`Failure::NotFound`], [`Failure::NotExecutable`].
    pub fn status(&mut self) -> Result<u8> {
        let not_executed = |e: io::Error| Error {
            failure: match e.kind() {
                io::ErrorKind::NotFound => Failure::NotFound,
                _ => Failure::NotExecutable,
            },
            message: format!("{} could not be executed: {e}", Untrusted::path(&self.program)),
        };
        let started = self.started.take().map(JoinHandle::join);
        match started {
            Some(Ok(Ok(mut child))) => child.wait().map(code).map_err(not_executed),
            Some(Ok(Err(e))) => Err(not_executed(e)),
            Some(Err(_)) | None => Err(not_executed(io::Error::other("its status was asked for twice"))),
        }
    }
}

/// Says who it is, and waits for the word. Between fork and exec.
fn wait(mut waits: &PipeReader, mut report: &PipeWriter) -> io::Result<()> {
    // SAFETY: takes nothing, and cannot fail.
    let pid = unsafe { libc::getpid() };
    report.write_all(&pid.to_ne_bytes())?;
    let mut word = [0];
    // Without a word, at the end of the pipe, it goes.
    let _ = waits.read(&mut word)?;
    if word == [END] {
        // SAFETY: ends the process at once; nothing of it has to be cleaned up.
        unsafe { libc::_exit(i32::from(Failure::NotStarted as u8)) };
    }
    Ok(())
}

/// 128 + n for one that a signal ended, as a shell has it.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(program: &str, arguments: &[&str]) -> Invocation {
        Invocation {
            program: program.into(),
            name: program.into(),
            arguments: arguments.iter().map(Into::into).collect(),
            identity: None,
            signal_mask: SigSet::empty(),
            descriptor_limit: None,
        }
    }

    #[test]
    fn nothing_happens_before_the_word() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("there");
        let mut held = Held::spawn(&invocation("/usr/bin/touch", &[file.to_str().unwrap()])).unwrap();
        let exe = std::fs::read_link(format!("/proc/{}/exe", held.pid)).unwrap();
        assert_eq!(exe, std::env::current_exe().unwrap());
        assert!(!file.exists());
        held.release();
        assert_eq!(held.status().unwrap(), 0);
        assert!(file.exists());
    }

    #[test]
    fn one_that_is_aborted_executes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("there");
        let mut held = Held::spawn(&invocation("/usr/bin/touch", &[file.to_str().unwrap()])).unwrap();
        held.abort();
        assert_eq!(held.status().unwrap(), Failure::NotStarted as u8);
        assert!(!file.exists());
    }

    #[test]
    fn one_whose_tracer_is_gone_goes_on() {
        let mut held = Held::spawn(&invocation("/bin/sh", &["-c", "exit 7"])).unwrap();
        drop(held.gate.take());
        assert_eq!(held.status().unwrap(), 7);
    }

    #[test]
    fn the_status_is_the_commands_own() {
        let status = |script| {
            let mut held = Held::spawn(&invocation("/bin/sh", &["-c", script])).unwrap();
            held.release();
            held.status().unwrap()
        };
        assert_eq!(status("exit 3"), 3);
        assert_eq!(status("kill -TERM $$"), 143);
    }

    #[test]
    fn what_cannot_be_executed_says_so() {
        let run = |program| {
            let mut held = Held::spawn(&invocation(program, &[])).unwrap();
            held.release();
            held.status().unwrap_err().failure
        };
        assert_eq!(run("/nonexistent"), Failure::NotFound);
        assert_eq!(run("/etc/passwd"), Failure::NotExecutable);
    }
}
