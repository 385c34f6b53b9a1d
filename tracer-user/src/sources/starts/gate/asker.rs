//! The feature that has programs held, and the count of starts that it missed.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The feature that has programs held, as messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// `run --follow`: all programs of the host.
    Follow,
    /// `attach --next`: one file.
    Next,
    /// The daemon's `init.include`: some files.
    Daemon,
}

impl Asker {
    /// Whether every program that is executed waits; if not, files that are watched.
    pub fn watches_all(self) -> bool {
        self == Self::Follow
    }

    /// What to do where the privilege is missing.
    pub(super) fn remedy(self) -> String {
        match self {
            Self::Follow => "run gmpscope as root on the host".to_owned(),
            Self::Next => format!("run gmpscope as root on the host; {}", self.alternative()),
            Self::Daemon => format!(
                "docs/daemon.md (\"Starts\") has the lines for its unit; {}",
                self.alternative()
            ),
        }
    }

    /// What works without the gate.
    pub(super) fn alternative(self) -> &'static str {
        match self {
            Self::Follow => {
                "`gmpscope run` sees the start of the command alone without, and `gmpscope attach --exe PATH --next \
                 --whole-binary` those of one binary"
            }
            Self::Next => {
                "--whole-binary does without; `gmpscope attach --help` says what it does to other programs"
            }
            Self::Daemon => {
                "init.whole_binary = true does without; docs/daemon.md says what it does to other programs"
            }
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Follow => "--follow",
            Self::Next => "--next",
            Self::Daemon => "init.include",
        })
    }
}

/// Counts starts that continued without their probes, and why the last one did.
#[derive(Debug, Default)]
pub struct Missed {
    count: AtomicU64,
    gaps: AtomicU64,
    why: Mutex<Option<String>>,
}

impl Missed {
    /// Counts one more start, and why it was missed.
    pub(super) fn add(&self, why: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// How many starts were missed.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Records that nothing is held for a while, or any more: how many start meanwhile is not known.
    pub(super) fn gap(&self, why: &str) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// How often nothing was held for a while.
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Why the last start was missed, or the last gap began.
    pub fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
