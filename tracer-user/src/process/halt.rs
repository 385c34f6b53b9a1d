//! Whether a process runs at all: it may be stopped by a signal, held by a debugger, or its cgroup may be frozen.

use std::{fmt, fs};

use serde::{Deserialize, Serialize};

use super::cgroup::Freezer;
use super::threads::{folder, state};

/// Why no thread of a process runs, whatever it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Halt {
    /// A signal has stopped it (SIGSTOP, or SIGTSTP of the terminal).
    Stopped,
    /// A debugger holds its threads.
    Traced,
    /// Its cgroup is frozen.
    Frozen,
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stopped => "stopped",
            Self::Traced => "traced",
            Self::Frozen => "frozen",
        })
    }
}

/// Reads whether a process is halted.
#[derive(Clone, Debug, Default)]
pub struct HaltWatch {
    pid: u32,
    freezers: Vec<Freezer>,
}

impl HaltWatch {
    /// Returns a watch of a process, which looks at the cgroups that the process is in now.
    pub fn new(pid: u32) -> Self {
        let cgroups = fs::read(format!("{}/cgroup", folder(pid))).unwrap_or_default();
        Self {
            pid,
            freezers: Freezer::all_of(&cgroups),
        }
    }

    /// Reads why the process does not run; `None` where it can, or that is not known.
    pub fn read(&self) -> Option<Halt> {
        // A frozen process may have been stopped before; it is not continued by a signal.
        if self.freezers.iter().any(Freezer::is_frozen) {
            return Some(Halt::Frozen);
        }
        // Of a thread that lives: the first may have ended, while others run.
        let stat = fs::read(format!("{}/stat", folder(self.pid))).ok()?;
        halt_of(state(&stat)?)
    }
}

fn halt_of(state: u8) -> Option<Halt> {
    match state {
        b'T' => Some(Halt::Stopped),
        b't' => Some(Halt::Traced),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::*;

    #[test]
    fn a_process_that_is_stopped_and_continued_is_seen() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let watch = HaltWatch::new(child.id());
        let becomes = |expected: Option<Halt>| {
            let end = Instant::now() + Duration::from_secs(10);
            while watch.read() != expected && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(watch.read(), expected);
        };
        becomes(None);
        kill(pid, Signal::SIGSTOP).unwrap();
        becomes(Some(Halt::Stopped));
        kill(pid, Signal::SIGCONT).unwrap();
        becomes(None);
        child.kill().unwrap();
        // It is a zombie now.
        becomes(None);
        child.wait().unwrap();
        assert_eq!(watch.read(), None);
    }
}
