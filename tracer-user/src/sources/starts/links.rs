//! Probes that are bound to single processes: how many there may be, and when they are removed.
//!
//! Closing a link takes the kernel some 40 ms, and a perf event 80, most of it spent waiting; many at once wait
//! together. So probes are removed in batches, on other threads.

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

use crate::{
    bpf::attach::{Probes, drop_in_parallel},
    process::file::FileId,
};

/// Fewest and most descriptors that probes of single processes may take together.
const DESCRIPTORS: (usize, usize) = (64, 4_096);
/// How often the links of starts that have not ended are swept.
const SWEPT_NS: u64 = 1_000_000_000;
/// Age at which a start that has not ended loses its probes: the event of its end may have been lost.
const LONGEST_NS: u64 = 300_000_000_000;
/// Longest time from the gate until the process runs its program, on a slow disk or with another gate after ours.
const LONGEST_EXEC_NS: u64 = 10_000_000_000;

/// Descriptors that may be used for probes of single processes.
#[derive(Clone)]
pub struct DescriptorBudget(Arc<(Mutex<usize>, Condvar)>);

/// Descriptors that are in use, until this is dropped.
pub struct Ticket {
    budget: DescriptorBudget,
    taken: usize,
}

impl DescriptorBudget {
    /// Half of the descriptors that we may open.
    pub fn new() -> Self {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let (least, most_at_all) = DESCRIPTORS;
        let half = usize::try_from(most / 2).unwrap_or(usize::MAX);
        Self(Arc::new((
            Mutex::new(half.clamp(least, most_at_all)),
            Condvar::new(),
        )))
    }

    /// Takes `wanted` descriptors, and waits for them until then at most.
    pub fn take(&self, wanted: usize, until: Instant) -> Option<Ticket> {
        let (free, freed) = &*self.0;
        let free: MutexGuard<'_, usize> = free.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        let waited = freed.wait_timeout_while(free, left, |free| *free < wanted);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(wanted)?;
        Some(Ticket {
            budget: self.clone(),
            taken: wanted,
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (free, freed) = &*self.budget.0;
        *free.lock().unwrap_or_else(PoisonError::into_inner) += self.taken;
        freed.notify_all();
    }
}

/// Live probes of one process, and the descriptors that they use.
pub struct ProcessProbes {
    /// The probes.
    pub probes: Probes,
    /// The descriptors that they use, where these are counted.
    pub ticket: Option<Ticket>,
}

/// Removes probes on other threads.
pub struct Reaper {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

enum Work {
    Close(Box<ProcessProbes>),
    Done(Sender<()>),
}

impl Reaper {
    /// Starts the thread. If there can be none, closing probes waits for the kernel.
    pub fn start() -> Self {
        let (work, received) = mpsc::channel();
        let reap = move || {
            while let Ok(first) = received.recv() {
                let (mut bound, mut done) = (Vec::new(), Vec::new());
                for work in std::iter::once(first).chain(received.try_iter()) {
                    match work {
                        Work::Close(one) => bound.push(*one),
                        Work::Done(to) => done.push(to),
                    }
                }
                close(bound);
                for to in done {
                    // Fails if the receiver is not waiting any more.
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

    /// Removes probes, soon.
    pub fn close(&self, bound: ProcessProbes) {
        // If the thread does not take them, they are removed here.
        let refused = match &self.work {
            Some(work) => work.send(Work::Close(Box::new(bound))).map_err(|e| e.0),
            None => return close(vec![bound]),
        };
        if let Err(Work::Close(bound)) = refused {
            close(vec![*bound]);
        }
    }

    /// Waits until all probes that were given to the thread are gone.
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

fn close(bound: Vec<ProcessProbes>) {
    let (probes, tickets): (Vec<_>, Vec<_>) = bound
        .into_iter()
        .map(|bound| (bound.probes, bound.ticket))
        .unzip();
    drop_in_parallel(probes.into_iter().flat_map(Probes::split).collect());
    drop(tickets);
}

/// A process that got its probes at the gate.
pub struct Linked {
    /// Id of the gate's job.
    pub job: u64,
    /// The process, in our PID namespace.
    pub pid: u32,
    /// The binary's slot.
    pub slot: u32,
    /// The file that it is about to execute.
    pub file: FileId,
    /// When it got them, CLOCK_MONOTONIC.
    pub since_ns: u64,
    /// The probes.
    pub bound: ProcessProbes,
}

/// The probes of each process, until its start has ended.
pub struct Links {
    live: BTreeMap<u32, Vec<Linked>>,
    reaper: Reaper,
    swept_ns: u64,
}

impl Links {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self {
            live: BTreeMap::new(),
            reaper: Reaper::start(),
            swept_ns: 0,
        }
    }

    /// Adds a process that got its probes.
    pub fn add(&mut self, linked: Linked) {
        self.live.entry(linked.pid).or_default().push(linked);
    }

    /// Removes the probes that a process got before its start ended at `at_ns`.
    pub fn ended(&mut self, pid: u32, at_ns: u64) {
        self.close_where(Some(pid), |linked| linked.since_ns < at_ns);
    }

    /// Removes the probes of jobs whose process did not wait for them.
    pub fn late(&mut self, jobs: &[u64]) {
        if !jobs.is_empty() {
            self.close_where(None, |linked| jobs.contains(&linked.job));
        }
    }

    /// Removes, now and then, the probes of processes that were killed during their start, or run something else by now.
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

    /// Removes the probes of all processes of a binary, and waits until they are gone.
    pub fn unprobe(&mut self, slot: u32) {
        self.close_where(None, |linked| linked.slot == slot);
        self.reaper.wait();
    }

    /// Removes, in the background, the probes of a process whose binary is not known any more.
    pub fn refuse(&self, linked: Linked) {
        self.reaper.close(linked.bound);
    }

    /// Removes all probes in the background.
    pub fn clear_soon(&mut self) {
        self.close_where(None, |_| true);
    }

    /// Removes all probes, and waits until they are gone.
    pub fn clear(&mut self) {
        self.close_where(None, |_| true);
        self.reaper.wait();
    }

    fn close_where(&mut self, of: Option<u32>, is_over: impl Fn(&Linked) -> bool) -> Vec<u32> {
        let pids: Vec<u32> = match of {
            Some(pid) => vec![pid],
            None => self.live.keys().copied().collect(),
        };
        let mut without = Vec::new();
        for pid in pids {
            let Some(linked) = self.live.get_mut(&pid) else {
                continue;
            };
            for gone in linked.extract_if(.., |linked| is_over(linked)) {
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
    fn without_room_it_is_waited_for_but_not_past_the_deadline() {
        let budget = DescriptorBudget(Arc::new((Mutex::new(20), Condvar::new())));
        let first = budget.take(16, Instant::now()).unwrap();
        let begun = Instant::now();
        assert!(budget.take(16, begun + Duration::from_millis(30)).is_none());
        assert!(begun.elapsed() >= Duration::from_millis(30));
        let other = budget.clone();
        let waits =
            std::thread::spawn(move || other.take(16, Instant::now() + Duration::from_secs(60)).is_some());
        drop(first);
        assert!(waits.join().unwrap());
        assert!(budget.take(20, Instant::now()).is_some(), "all of it came back");
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
