//! A command that is held before its execve by a pipe that it reads from: the process exists and can be attached to,
//! and has not begun.
//!
//! If we die while it is held, the pipe is closed, and the command continues untraced.

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

/// A command to run, and the user that it runs as. Standard streams, environment and working directory are ours.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The file to execute.
    pub program: PathBuf,
    /// Its name (`argv[0]`).
    pub name: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The user that it runs as, if not ours.
    pub identity: Option<Identity>,
    /// The signals that it has blocked: those that we had before we blocked some.
    pub signal_mask: SigSet,
    /// The limit on its descriptors, if we have changed our own.
    pub descriptor_limit: Option<DescriptorLimit>,
}

/// The byte that lets the held process execute its program.
const GO: u8 = b'g';
/// The byte that ends the held process.
const END: u8 = b'e';

/// The process of a command.
pub struct Held {
    /// Its process id.
    pub pid: u32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    gate: Option<PipeWriter>,
    started: Option<JoinHandle<io::Result<Child>>>,
    program: PathBuf,
}

impl Held {
    /// Makes the process, which then waits.
    ///
    /// # Errors
    /// No process could be made.
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
                // With its own copy of the writing end, it would wait for ever if we died.
                libc::close(gate_number);
                wait(&waits, &report)?;
                signal_mask.thread_set_mask()?;
                if let Some(limit) = descriptor_limit {
                    limit.apply()?;
                }
                identity.as_ref().map_or(Ok(()), Identity::assume)
            })
        };
        // `spawn` returns only when the process has executed its program, so it is called in another thread.
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
            // It ended before it could report anything: the thread knows why.
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
        self.send(GO);
    }

    /// Ends it before it executes anything.
    pub fn abort(&mut self) {
        self.send(END);
    }

    fn send(&mut self, what: u8) {
        if let Some(mut gate) = self.gate.take() {
            // If the process has ended already, its pidfd reports that.
            let _ = gate.write_all(&[what]);
        }
    }

    /// Returns its status as in a shell, once [`Self::pidfd`] is readable.
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

/// Reports its process id, and waits for [`GO`] or [`END`]. Runs between fork and exec.
fn wait(mut waits: &PipeReader, mut report: &PipeWriter) -> io::Result<()> {
    // SAFETY: takes nothing, and cannot fail.
    let pid = unsafe { libc::getpid() };
    report.write_all(&pid.to_ne_bytes())?;
    let mut order = [0];
    // If the pipe was closed without an order, the process continues.
    let _ = waits.read(&mut order)?;
    if order == [END] {
        // SAFETY: ends the process at once; nothing of it has to be cleaned up.
        unsafe { libc::_exit(i32::from(Failure::NotStarted as u8)) };
    }
    Ok(())
}

/// Returns the exit status as in a shell: 128 + n for a process that signal n ended.
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
    fn nothing_happens_before_the_order() {
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
    fn one_whose_tracer_is_gone_continues() {
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
