//! Times the starts of the binaries that `init.include` names, whoever starts them.
//!
//! Each start is held until its own process is probed, or the whole binary is probed, where `init.whole_binary` says so
//! ([`StartsBy`](crate::sources::host::StartsBy)). A path without `*` and `?` is looked up on the host from time to
//! time, so that every start of that file is seen, the first too. A file that matches a pattern, or lies in a
//! container, is known once a process of it has lived long enough to be found, and is timed from its next start on.

mod candidate;
mod counts;
mod timed;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use self::candidate::{Candidate, analyse, is_included};
use self::{counts::Counts, timed::Timed};
use super::{config::Config, error_log::ErrorLog, targets::Targets, view::StartsView};
use crate::{
    error::{Failure, Result},
    escape::Untrusted,
    process::file::{FileId, FileState},
    session::start::program::Program,
    sources::host::{HostKernel, SlotId},
};

/// When a binary is tried again that could not be attached to for a reason that may pass.
const RETRY_NS: u64 = 60_000_000_000;
/// How many binaries are watched at once at most.
const MAX_BINARIES: usize = 64;
/// How often marks are read, and the probes of processes that have started are removed.
const READ_NS: u64 = 250_000_000;
/// How long a binary is still watched after it was last found.
const KEPT_NS: u64 = 600_000_000_000;

/// The binaries whose starts are timed, and what was counted.
#[derive(Default)]
pub struct TimedStarts {
    binaries: BTreeMap<FileKey, Binary>,
    counts: Counts,
    /// Slots of files that were replaced, to be detached.
    stale: Vec<SlotId>,
    /// When [`Self::read`] is due.
    read_ns: u64,
}

/// Device and inode, which can be ordered.
type FileKey = (u64, u64);

struct Binary {
    exe: Arc<Untrusted>,
    state: FileState,
    /// Whether the whole binary is probed.
    whole: bool,
    /// `None` while it is being analysed, and if its starts cannot be timed.
    timed: Option<Timed>,
    /// When it is analysed again after a failure.
    retry_ns: Option<u64>,
    /// When it was last found.
    seen_ns: u64,
}

impl TimedStarts {
    /// Finds the files that are to be analysed: new ones, and those that are due to be tried again.
    pub fn candidates(&mut self, config: &Config, targets: &mut Targets, now_ns: u64) -> Vec<Candidate> {
        let mut found = candidate::find(config, targets);
        found.retain(|candidate| self.take_in(candidate, now_ns));
        found
    }

    /// Takes in a file that was found. True if it is to be analysed.
    fn take_in(&mut self, candidate: &Candidate, now_ns: u64) -> bool {
        let key = key(candidate.state.id);
        if let Some(binary) = self.binaries.get_mut(&key)
            && binary.state == candidate.state
            && binary.whole == candidate.whole
        {
            binary.seen_ns = now_ns;
            return binary.retry_ns.take_if(|at| *at <= now_ns).is_some();
        }
        if self.binaries.len() >= MAX_BINARIES && !self.binaries.contains_key(&key) {
            return false;
        }
        let binary = Binary {
            exe: Arc::new(candidate.exe.clone()),
            state: candidate.state,
            whole: candidate.whole,
            timed: None,
            retry_ns: None,
            seen_ns: now_ns,
        };
        // A file that was written to is another binary.
        let before = self.binaries.insert(key, binary);
        self.stale
            .extend(before.and_then(|before| before.timed).map(|timed| timed.slot));
        true
    }

    /// Attaches to a candidate that was analysed: its starts are timed from now on.
    pub fn attach(
        &mut self,
        candidate: &Candidate,
        program: Result<Box<Program>>,
        kernel: &mut HostKernel,
        errors: &mut ErrorLog,
        now_ns: u64,
    ) {
        let Some(binary) = self.binaries.get_mut(&key(candidate.state.id)) else {
            return;
        };
        match program.and_then(|program| Timed::attach(candidate, program, kernel)) {
            Ok(timed) => {
                log::info!("starts of {} are timed", binary.exe);
                self.counts.of(&binary.exe).used_ns = now_ns;
                binary.timed = Some(timed);
            }
            // Logged once for each file, since it is not tried again.
            Err(e) if e.failure == Failure::NotTraceable => {
                errors.add("starts_not_traceable", &e, now_ns);
            }
            // Nor is this: privileges do not change.
            Err(e) if e.failure == Failure::NotPermitted => errors.add("starts", &e, now_ns),
            Err(e) => {
                errors.add("starts", &e, now_ns);
                binary.retry_ns = Some(now_ns.saturating_add(RETRY_NS));
            }
        }
    }

    /// When [`Self::read`] has something to do.
    pub fn next_due(&self) -> u64 {
        match self.is_empty() {
            true => u64::MAX,
            false => self.read_ns,
        }
    }

    /// Whether no starts are timed.
    pub fn is_empty(&self) -> bool {
        self.binaries.values().all(|binary| binary.timed.is_none())
    }

    /// Reads what was observed, if it is due, and counts it.
    pub fn read(&mut self, kernel: &mut HostKernel, errors: &mut ErrorLog, now_ns: u64) {
        if now_ns < self.read_ns {
            return;
        }
        self.read_ns = now_ns.saturating_add(READ_NS);
        for binary in self.binaries.values_mut() {
            if let Some(timed) = &mut binary.timed {
                let counted = self.counts.of(&binary.exe);
                timed.read(&binary.exe, kernel, counted, errors, now_ns);
            }
        }
    }

    /// Detaches from files that were replaced, are no longer configured, or were not found for a while.
    pub fn sweep(&mut self, config: &Config, kernel: &mut HostKernel, errors: &mut ErrorLog, now_ns: u64) {
        for slot in self.stale.drain(..) {
            if let Err(e) = kernel.detach_starts(slot) {
                errors.add("detach", &e, now_ns);
            }
        }
        self.binaries.retain(|_, binary| {
            let is_there = now_ns.saturating_sub(binary.seen_ns) < KEPT_NS;
            if is_there && is_included(config, &binary.exe) {
                return true;
            }
            if let Some(timed) = &binary.timed
                && let Err(e) = kernel.detach_starts(timed.slot)
            {
                errors.add("detach", &e, now_ns);
            }
            log::info!("starts of {} are no longer timed", binary.exe);
            false
        });
        self.counts.retain(|exe| is_included(config, exe));
        let timed: BTreeSet<&Untrusted> = self.binaries.values().map(|binary| &*binary.exe).collect();
        self.counts.forget_oldest(&timed);
    }

    /// What is shown of each binary.
    pub fn views(&self) -> BTreeMap<String, StartsView> {
        self.counts.views()
    }
}

fn key(id: FileId) -> FileKey {
    (id.device, id.inode)
}
