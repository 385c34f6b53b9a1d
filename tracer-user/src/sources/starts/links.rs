//! Probes that are bound to single processes: how many there may be, and when they go.
//!
//! Closing a link costs the kernel some 40 ms, and a perf event 80, most of it spent waiting; many at once wait
//! together. So a start's probes go on threads beside, in batches.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Sender},
    },
    thread::JoinHandle,
    time::Instant,
};

use rustix::process::{Resource, getrlimit};

use super::super::host::all_at_once;
use crate::bpf::attach::Probes;
use crate::process::file::FileId;

/// Fewest and most descriptors that probes of single processes may take together.
const DESCRIPTORS: (usize, usize) = (64, 4_096);
/// Links of processes that have not come to an end are looked after this often, and from this age on.
const SWEPT_NS: u64 = 1_000_000_000;
/// A start that has not come to its end after so long has its probes taken away: its end may have been lost.
const LONGEST_NS: u64 = 300_000_000_000;
/// So long it may take from the gate until the process runs its program, on a slow disk or with another gate behind ours.
const LONGEST_EXEC_NS: u64 = 10_000_000_000;

/// Descriptors that may be taken for probes of single processes.
#[derive(Clone)]
pub struct Room(Arc<(Mutex<usize>, Condvar)>);

/// Descriptors that are taken; free again when it is dropped.
pub struct Ticket {
    room: Room,
    taken: usize,
}

impl Room {
    /// Half of what we may still open.
    pub fn new() -> Self {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let (least, most_at_all) = DESCRIPTORS;
        let half = usize::try_from(most / 2).unwrap_or(usize::MAX);
        Self(Arc::new((
            Mutex::new(half.clamp(least, most_at_all)),
            Condvar::new(),
        )))
    }

    /// Takes so many descriptors, and waits for them until then at most.
    pub fn take(&self, wanted: usize, until: Instant) -> Option<Ticket> {
        let (free, freed) = &*self.0;
        let free: MutexGuard<'_, usize> = free.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        let waited = freed.wait_timeout_while(free, left, |free| *free < wanted);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(wanted)?;
        Some(Ticket {
            room: self.clone(),
            taken: wanted,
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (free, freed) = &*self.room.0;
        *free.lock().unwrap_or_else(PoisonError::into_inner) += self.taken;
        freed.notify_all();
    }
}

/// Live probes of one process, and the room that they take.
pub struct Bound {
    /// They.
    pub probes: Probes,
    /// Their descriptors, where these are counted.
    pub ticket: Option<Ticket>,
}

/// Takes probes away, on a thread of its own and others.
pub struct Reaper {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

enum Work {
    Close(Box<Bound>),
    Done(Sender<()>),
}

impl Reaper {
    /// Starts the thread. Without one, whoever closes probes waits for the kernel.
    pub fn start() -> Self {
        let (work, come) = mpsc::channel();
        let reap = move || {
            while let Ok(first) = come.recv() {
                let (mut bound, mut done) = (Vec::new(), Vec::new());
                for work in std::iter::once(first).chain(come.try_iter()) {
                    match work {
                        Work::Close(one) => bound.push(*one),
                        Work::Done(to) => done.push(to),
                    }
                }
                close(bound);
                for to in done {
                    // It may have been waited for no longer.
                    let _ = to.send(());
                }
            }
        };
        let thread = std::thread::Builder::new().name("detach".to_owned()).spawn(reap);
        match thread {
            Ok(thread) => Self {
                work: Some(work),
                thread: Some(thread),
            },
            Err(e) => {
                log::warn!("no thread to detach in ({e}): probes are taken away one after the other");
                Self {
                    work: None,
                    thread: None,
                }
            }
        }
    }

    /// Takes these away, soon.
    pub fn close(&self, bound: Bound) {
        // Where nobody takes them, they go here.
        let refused = match &self.work {
            Some(work) => work.send(Work::Close(Box::new(bound))).map_err(|e| e.0),
            None => return close(vec![bound]),
        };
        if let Err(Work::Close(bound)) = refused {
            close(vec![*bound]);
        }
    }

    /// Waits until all are gone that were given to it.
    pub fn wait(&self) {
        let (done, wait) = mpsc::channel();
        if let Some(work) = &self.work
            && work.send(Work::Done(done)).is_ok()
        {
            let _ = wait.recv();
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn close(bound: Vec<Bound>) {
    let (probes, tickets): (Vec<_>, Vec<_>) = bound
        .into_iter()
        .map(|bound| (bound.probes, bound.ticket))
        .unzip();
    all_at_once(probes.into_iter().flat_map(Probes::split).collect());
    drop(tickets);
}

/// A process that has its probes, as the gate tells it.
pub struct Linked {
    /// The gate's number for it.
    pub job: u64,
    /// It, in our PID namespace.
    pub pid: u32,
    /// The binary's slot.
    pub slot: u32,
    /// The file that it is about to execute.
    pub file: FileId,
    /// Since when it has them, CLOCK_MONOTONIC.
    pub since_ns: u64,
    /// They.
    pub bound: Bound,
}

/// The probes of all processes that have any, each until its start has ended.
pub struct Links {
    live: BTreeMap<u32, Vec<Linked>>,
    reaper: Reaper,
    swept_ns: u64,
}

impl Links {
    /// None yet.
    pub fn new() -> Self {
        Self {
            live: BTreeMap::new(),
            reaper: Reaper::start(),
            swept_ns: 0,
        }
    }

    /// One more process has its probes.
    pub fn add(&mut self, linked: Linked) {
        self.live.entry(linked.pid).or_default().push(linked);
    }

    /// The start of a process ended then: what it was given before goes.
    pub fn ended(&mut self, pid: u32, at_ns: u64) {
        self.close_where(Some(pid), |linked| linked.since_ns < at_ns);
    }

    /// Those go whose process did not wait for them.
    pub fn late(&mut self, jobs: &[u64]) {
        if !jobs.is_empty() {
            self.close_where(None, |linked| jobs.contains(&linked.job));
        }
    }

    /// Has the probes go of processes that were killed on their way, or run something else by now: now and then.
    /// Returns those that have none any more.
    pub fn sweep(&mut self, now_ns: u64) -> Vec<u32> {
        if now_ns.saturating_sub(self.swept_ns) < SWEPT_NS {
            return Vec::new();
        }
        self.swept_ns = now_ns;
        self.close_where(None, |linked| {
            let age_ns = now_ns.saturating_sub(linked.since_ns);
            let is_gone = || !Path::new(&format!("/proc/{}", linked.pid)).exists();
            let runs_another = || !runs(linked.pid, linked.file);
            age_ns > LONGEST_NS || (age_ns > LONGEST_EXEC_NS && runs_another()) || is_gone()
        })
    }

    /// Has all go that were given to processes of a binary, and waits until they are gone.
    pub fn unprobe(&mut self, slot: u32) {
        self.close_where(None, |linked| linked.slot == slot);
        self.reaper.wait();
    }

    /// Has these go, beside: nobody knows their binary any more.
    pub fn refuse(&self, linked: Linked) {
        self.reaper.close(linked.bound);
    }

    /// Has all go, beside.
    pub fn clear_soon(&mut self) {
        self.close_where(None, |_| true);
    }

    /// Has all go.
    pub fn clear(&mut self) {
        self.close_where(None, |_| true);
        self.reaper.wait();
    }

    fn close_where(&mut self, of: Option<u32>, goes: impl Fn(&Linked) -> bool) -> Vec<u32> {
        let pids: Vec<u32> = match of {
            Some(pid) => vec![pid],
            None => self.live.keys().copied().collect(),
        };
        let mut without = Vec::new();
        for pid in pids {
            let Some(linked) = self.live.get_mut(&pid) else {
                continue;
            };
            for gone in linked.extract_if(.., |linked| goes(linked)) {
                self.reaper.close(gone.bound);
            }
            if linked.is_empty() {
                self.live.remove(&pid);
                without.push(pid);
            }
        }
        without
    }
}

/// Whether a process runs this file.
fn runs(pid: u32, file: FileId) -> bool {
    fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(|metadata| FileId::of(&metadata) == file)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_finds_no_room_waits_for_it_and_not_longer_than_it_may() {
        let room = Room(Arc::new((Mutex::new(20), Condvar::new())));
        let first = room.take(16, Instant::now()).unwrap();
        let begun = Instant::now();
        assert!(room.take(16, begun + Duration::from_millis(30)).is_none());
        assert!(begun.elapsed() >= Duration::from_millis(30));
        let other = room.clone();
        let waits =
            std::thread::spawn(move || other.take(16, Instant::now() + Duration::from_secs(60)).is_some());
        drop(first);
        assert!(waits.join().unwrap());
        assert!(room.take(20, Instant::now()).is_some(), "all of it came back");
    }

    #[test]
    fn a_process_is_known_by_the_file_that_it_runs() {
        let ours = fs::metadata("/proc/self/exe").unwrap();
        let (pid, file) = (std::process::id(), FileId::of(&ours));
        assert!(runs(pid, file));
        assert!(!runs(pid, FileId { inode: 1, ..file }));
        assert!(!runs(u32::MAX, file));
    }
}
