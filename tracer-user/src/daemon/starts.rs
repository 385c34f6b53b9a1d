//! Starts of the binaries that `init.include` names: each is timed, whoever makes it.
//!
//! Each start waits until its own process is probed, or the whole binary is, where `init.whole_binary` says so
//! ([`StartsBy`]). A path without `*` and `?` is looked up on the host now and then, so that every start of that
//! file is seen, the first too. What matches a pattern, or lies in a container, is known once a process of it has
//! lived long enough to be found, and is timed from its next start on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::{config::Config, discovery::fits, error_log::ErrorLog, targets::Targets, view::StartsView};
use crate::{
    error::{Failure, Result},
    escape::Untrusted,
    latency::start::PhaseTimes,
    model::start::{Ended, Starts},
    process::file::{FileId, FileState},
    session::start::program::Program,
    sources::{
        host::{HostKernel, SlotId, StartsBy, StartsRequest},
        starts::{Functions, gate::Missed},
    },
    stream::Kind,
};

/// The number of a binary among those of its slot.
const ONLY: u32 = 0;
/// What could not be attached for want of something, not because of the program, is tried again after so long.
const RETRY_NS: u64 = 60_000_000_000;
/// Binaries that are watched at once at most.
const MOST: usize = 64;
/// Marks are read this often, and probes go of processes that have started.
const READ_NS: u64 = 250_000_000;
/// Binaries of which it is shown what was counted, at most: a pattern may fit ever new ones.
const MAX_COUNTED: usize = 256;
/// A binary that no process runs and that is not where it was is watched no longer than this.
const KEPT_NS: u64 = 600_000_000_000;
/// A start that has not come to `main.main` after so long is given up.
const LONGEST_START_NS: u64 = 300_000_000_000;

/// A file whose starts are to be timed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How it is shown.
    pub exe: Untrusted,
    /// How it is opened.
    pub path: String,
    /// What is there.
    pub state: FileState,
    /// Whether the whole binary is to be probed.
    pub whole: bool,
}

/// All starts.
#[derive(Default)]
pub struct Startings {
    binaries: BTreeMap<FileKey, Binary>,
    /// What was counted, by how the binary is shown; it stays when the file gives way to another.
    counted: BTreeMap<Arc<Untrusted>, Counted>,
    /// What was attached for files that have become others.
    stale: Vec<SlotId>,
    read_ns: u64,
}

/// Device and inode, in an order.
type FileKey = (u64, u64);

struct Binary {
    exe: Arc<Untrusted>,
    state: FileState,
    /// Whether the whole binary is probed.
    whole: bool,
    /// `None` while it is looked into, and where its starts cannot be timed.
    timed: Option<Timed>,
    /// When it is looked into again, after that has failed.
    retry_ns: Option<u64>,
    seen_ns: u64,
}

struct Timed {
    slot: SlotId,
    program: Box<Program>,
    open: Starts,
    /// When each start that is open was first seen.
    since_ns: BTreeMap<u32, u64>,
    /// Starts that it has missed so far.
    missed: u64,
    /// How often so far its starts were not held for a while.
    gaps: u64,
}

#[derive(Default)]
struct Counted {
    /// When one of its starts was last seen to begin or end.
    used_ns: u64,
    completed: u64,
    failed: u64,
    missed: u64,
    times: PhaseTimes,
}

/// Looks into a candidate. Takes some milliseconds.
///
/// # Errors
/// It is no Go program any more, or its starts cannot be timed.
pub fn analyse(candidate: &Candidate) -> Result<Box<Program>> {
    Program::open(Path::new(&candidate.path)).map(Box::new)
}

impl Startings {
    /// Files that are to be looked into, and have not been: what a fixed path leads to, and what targets run.
    pub fn candidates(&mut self, config: &Config, targets: &mut Targets, now_ns: u64) -> Vec<Candidate> {
        let whole = config.init.whole_binary;
        let mut found = Vec::new();
        for path in &config.init.include {
            let is_fixed = !path.contains(['*', '?']);
            if is_fixed && let Ok(state) = FileState::known_at(path) {
                found.push(Candidate {
                    exe: path.as_str().into(),
                    path: path.clone(),
                    state,
                    whole,
                });
            }
        }
        for (pid, target) in targets.iter_mut() {
            let exe = &target.view().name.exe;
            if let Some(watched) = target.watching()
                && config.init.include.iter().any(|pattern| fits(pattern, exe.raw()))
            {
                found.push(Candidate {
                    exe: exe.clone(),
                    path: format!("/proc/{pid}/exe"),
                    state: watched.known.file,
                    whole,
                });
            }
        }
        found.retain(|candidate| {
            let key = key(candidate.state.id);
            if let Some(binary) = self.binaries.get_mut(&key)
                && binary.state == candidate.state
                && binary.whole == whole
            {
                binary.seen_ns = now_ns;
                return binary.retry_ns.take_if(|at| *at <= now_ns).is_some();
            }
            if self.binaries.len() >= MOST && !self.binaries.contains_key(&key) {
                return false;
            }
            let exe = Arc::new(candidate.exe.clone());
            let binary = Binary {
                exe,
                state: candidate.state,
                whole,
                timed: None,
                retry_ns: None,
                seen_ns: now_ns,
            };
            // One whose file was written to is another one.
            let before = self.binaries.insert(key, binary);
            self.stale
                .extend(before.and_then(|before| before.timed).map(|timed| timed.slot));
            true
        });
        found
    }

    /// A candidate was looked into: its starts are timed from now on.
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
        let attached = program.and_then(|program| {
            if program.target.file.state() != candidate.state {
                return Err(crate::error::Error::not_traceable(format!(
                    "{}: is another file by now",
                    candidate.exe
                )));
            }
            let request = StartsRequest {
                file: program.target.file.file(),
                plan: &program.plan,
                by: match candidate.whole {
                    true => StartsBy::WholeBinary,
                    false => StartsBy::Holding(candidate.state),
                },
            };
            let slot = kernel.attach_starts(&request)?;
            let mut open = Starts::default();
            if program.plan.dynamic {
                open.loads(ONLY);
            }
            Ok(Timed {
                slot,
                program,
                open,
                since_ns: BTreeMap::new(),
                missed: 0,
                gaps: 0,
            })
        });
        match attached {
            Ok(timed) => {
                log::info!("starts of {} are timed", binary.exe);
                let counted = self.counted.entry(Arc::clone(&binary.exe)).or_default();
                counted.used_ns = now_ns;
                binary.timed = Some(timed);
            }
            // Said once for each file: it is not tried again.
            Err(e) if e.failure == Failure::NotTraceable => {
                errors.add("starts_not_traceable", &e, now_ns);
            }
            // Nor is this: privileges stay what they are.
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

    /// Takes in what was seen.
    pub fn read(&mut self, kernel: &mut HostKernel, errors: &mut ErrorLog, now_ns: u64) {
        if now_ns < self.read_ns {
            return;
        }
        self.read_ns = now_ns.saturating_add(READ_NS);
        for binary in self.binaries.values_mut() {
            let Some(timed) = &mut binary.timed else { continue };
            let counted = self.counted.entry(Arc::clone(&binary.exe)).or_default();
            let seen = match kernel.observe_starts(timed.slot, now_ns, &Names(&timed.program)) {
                Ok(seen) => seen,
                Err(e) => {
                    errors.add("starts", &e, now_ns);
                    continue;
                }
            };
            if !seen.is_empty() {
                counted.used_ns = now_ns;
            }
            if let Ok(missed) = kernel.missed_starts(timed.slot) {
                timed.miss(missed, &binary.exe, counted, errors, now_ns);
            }
            for observation in &seen {
                match &observation.kind {
                    Kind::Event(_) => {
                        if let Some(start) = timed.open.observe(observation) {
                            counted.add(&start);
                        }
                    }
                    Kind::Loss(loss) => {
                        errors.add(
                            loss.cause.name(),
                            &format!("{} marks of starts of {}", loss.count, binary.exe),
                            now_ns,
                        );
                    }
                    _ => {}
                }
            }
            timed.give_up(counted, now_ns);
        }
    }

    /// Lets go of files that are of no interest any more.
    pub fn sweep(&mut self, config: &Config, kernel: &mut HostKernel, errors: &mut ErrorLog, now_ns: u64) {
        for slot in self.stale.drain(..) {
            if let Err(e) = kernel.detach_starts(slot) {
                errors.add("detach", &e, now_ns);
            }
        }
        self.binaries.retain(|_, binary| {
            let is_meant = config
                .init
                .include
                .iter()
                .any(|pattern| fits(pattern, binary.exe.raw()));
            let is_there = now_ns.saturating_sub(binary.seen_ns) < KEPT_NS;
            if is_meant && is_there {
                return true;
            }
            if let Some(timed) = &binary.timed
                && let Err(e) = kernel.detach_starts(timed.slot)
            {
                errors.add("detach", &e, now_ns);
            }
            log::info!("starts of {} are timed no longer", binary.exe);
            false
        });
        let meant = |exe: &Untrusted| {
            let mut patterns = config.init.include.iter();
            patterns.any(|pattern| fits(pattern, exe.raw()))
        };
        self.counted.retain(|exe, _| meant(exe));
        self.forget_oldest();
    }

    /// Keeps what is shown bounded: those binaries go that are timed no longer, the longest unused first.
    fn forget_oldest(&mut self) {
        let timed: BTreeSet<&Untrusted> = self.binaries.values().map(|binary| &*binary.exe).collect();
        let past = self
            .counted
            .iter()
            .filter(|(exe, _)| !timed.contains(exe.as_ref()));
        let mut past: Vec<(u64, Arc<Untrusted>)> = past
            .map(|(exe, counted)| (counted.used_ns, Arc::clone(exe)))
            .collect();
        past.sort();
        let excess = self.counted.len().saturating_sub(MAX_COUNTED);
        for (_, exe) in past.into_iter().take(excess) {
            self.counted.remove(&exe);
        }
    }

    /// What is shown.
    pub fn views(&self) -> BTreeMap<String, StartsView> {
        let views = self.counted.iter().map(|(exe, counted)| {
            let phases = counted.times.phases();
            let view = StartsView {
                completed: counted.completed,
                failed: counted.failed,
                missed: counted.missed,
                phases: phases
                    .map(|(name, histogram)| (name.to_owned(), histogram.clone()))
                    .collect(),
            };
            (exe.raw().to_owned(), view)
        });
        views.collect()
    }
}

/// Names of the functions of one binary.
struct Names<'a>(&'a Program);

impl Functions for Names<'_> {
    fn beginning_at(&self, _: u32, addresses: &BTreeSet<u64>) -> BTreeMap<u64, String> {
        self.0.functions(addresses)
    }
}

impl Timed {
    /// Counts starts that were not timed.
    fn miss(
        &mut self,
        missed: &Missed,
        exe: &Untrusted,
        counted: &mut Counted,
        errors: &mut ErrorLog,
        now_ns: u64,
    ) {
        let (count, gaps) = (missed.count(), missed.gaps());
        let new = count.saturating_sub(std::mem::replace(&mut self.missed, count));
        let new_gaps = gaps.saturating_sub(std::mem::replace(&mut self.gaps, gaps));
        let why = missed.why().unwrap_or_default();
        if new > 0 {
            counted.missed = counted.missed.saturating_add(new);
            errors.add("starts_missed", &format!("{new} starts of {exe}: {why}"), now_ns);
        }
        if new_gaps > 0 {
            errors.add(
                "starts_not_held",
                &format!("starts of {exe} may be missing, it is not known how many: {why}"),
                now_ns,
            );
        }
    }

    /// A start whose end was lost must not stay open for ever.
    fn give_up(&mut self, counted: &mut Counted, now_ns: u64) {
        let open = self.open.open();
        self.since_ns.retain(|pid, _| open.contains(pid));
        for pid in open {
            let since = *self.since_ns.entry(pid).or_insert(now_ns);
            if now_ns.saturating_sub(since) > LONGEST_START_NS
                && let Some(start) = self.open.cut(pid, now_ns)
            {
                counted.add(&start);
            }
        }
    }
}

impl Counted {
    fn add(&mut self, start: &crate::model::start::Start) {
        match start.ended {
            Ended::Main => self.completed += 1,
            Ended::Exit | Ended::Unfinished => self.failed += 1,
        }
        self.times.add(start);
    }
}

fn key(id: FileId) -> FileKey {
    (id.device, id.inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_bounded_and_what_is_timed_stays() {
        let mut startings = Startings::default();
        for n in 0..MAX_COUNTED as u64 + 10 {
            let exe = Arc::new(Untrusted::from(format!("/tmp/build-{n}")));
            let used_ns = n;
            startings.counted.insert(
                exe,
                Counted {
                    used_ns,
                    ..Counted::default()
                },
            );
        }
        let id = FileId { device: 1, inode: 2 };
        let state = FileState {
            id,
            len: 0,
            modified: (0, 0),
            changed: (0, 0),
        };
        let oldest = Binary {
            exe: Arc::new("/tmp/build-0".into()),
            state,
            whole: false,
            timed: None,
            retry_ns: None,
            seen_ns: 0,
        };
        startings.binaries.insert(key(id), oldest);
        startings.forget_oldest();
        assert_eq!(startings.counted.len(), MAX_COUNTED);
        assert!(startings.counted.contains_key(&Untrusted::from("/tmp/build-0")));
        assert!(!startings.counted.contains_key(&Untrusted::from("/tmp/build-10")));
        assert!(startings.counted.contains_key(&Untrusted::from("/tmp/build-11")));
    }
}
