//! Whether a process runs at all: it may be stopped by a signal, held by a debugger, or its cgroup may be frozen.

use std::{fmt, fs, path::Path};

use serde::{Deserialize, Serialize};

use super::cgroup::Freezer;

/// Most threads that are looked at for one that has not ended.
const MOST_THREADS: usize = 64;

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
        let cgroups = super::text_of(format!("/proc/{pid}/cgroup")).unwrap_or_default();
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
        let own = state_of(Path::new(&format!("/proc/{}/stat", self.pid)))?;
        if !is_gone(own) {
            return halt_of(own);
        }
        // The first thread may have ended, while others run.
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?;
        let mut states = threads
            .flatten()
            .take(MOST_THREADS)
            .filter_map(|thread| state_of(&thread.path().join("stat")));
        halt_of(states.find(|state| !is_gone(*state))?)
    }
}

/// The state of a thread, by its `stat`.
fn state_of(stat: &Path) -> Option<char> {
    state_in(&super::text_of(stat).ok()?)
}

/// The state in the text of a `stat`: it follows the name, which is in parentheses and may hold anything.
fn state_in(stat: &str) -> Option<char> {
    let (_, after) = stat.rsplit_once(')')?;
    after.trim_start().chars().next()
}

fn is_gone(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

fn halt_of(state: char) -> Option<Halt> {
    match state {
        'T' => Some(Halt::Stopped),
        't' => Some(Halt::Traced),
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
    fn the_state_follows_the_last_parenthesis() {
        assert_eq!(state_in("12 (a) T (b) t 1 12"), Some('t'));
        assert_eq!(state_in("12 (sleep) S 1"), Some('S'));
        for hostile in ["", "12", "12 (a)", ")", "12 (a) "] {
            assert_eq!(state_in(hostile), None, "{hostile:?}");
        }
    }

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
