//! What the kernel says of the threads that hold Ps: whether they can run, and for how long they could and did not.
//!
//! No file says whether a thread is on a CPU at this moment, only how long it has waited for one so far (`run_delay` in
//! `/proc/PID/task/TID/schedstat`), and that figure grows when a wait ends. So the share of the time that a thread
//! waited is what it grew since the last reading; what is more than the time since then is credited to the readings
//! that follow.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::process::threads::{ids_in_ours, shares_our_pid_namespace, state};

/// Most threads whose files are kept open, unless another number is set. Few are read at a time, but which ones hold Ps
/// changes.
const MOST_OPEN: usize = 32;
/// A thread that was not read for so long is closed, unless samples are further apart.
const UNUSED_NS: u64 = 1_000_000_000;
/// How often ids of threads are looked up where they differ from ours: that reads a file for each thread.
const LOOK_UP_NS: u64 = 1_000_000_000;
/// Most time that is credited to the readings that follow: a wait that is longer did not end in this window.
const MOST_CREDIT_NS: u64 = 1_000_000_000;
/// Longer than any `schedstat`, and than a `stat` up to the state.
const FILE: usize = 512;

/// What a thread does, as the kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It runs, or could.
    Able,
    /// It sleeps, for a page or a lock or in a system call.
    Asleep,
    /// It is stopped, traced, or about to end.
    Halted,
}

/// A reading of a thread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Account {
    /// What it does now.
    pub doing: Doing,
    /// The share of the time since its last reading in which it waited for a CPU; `None` where that is too long ago.
    pub waited: Option<f64>,
}

/// The threads of one process.
#[derive(Debug)]
pub(super) struct Threads {
    pid: u32,
    /// The folder that has one for each thread.
    folder: PathBuf,
    /// Most threads whose files are kept open.
    most_open: usize,
    /// Whether the process numbers its threads as we do.
    same_ids: bool,
    /// The ids of its threads in ours, by their own.
    ids: HashMap<u32, u32>,
    /// When these were looked up, CLOCK_MONOTONIC.
    looked_up_ns: Option<u64>,
    open: HashMap<u64, Thread>,
}

/// The open files of a thread.
#[derive(Debug)]
struct Thread {
    schedstat: File,
    stat: File,
    waiting: Waiting,
}

/// What a thread has waited for CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Waiting {
    /// When it was read last, CLOCK_MONOTONIC.
    at_ns: u64,
    /// `run_delay` then; `None` before the first reading.
    delay_ns: Option<u64>,
    /// Of it, what was more than the time that it was read for.
    credit_ns: u64,
}

impl Threads {
    /// The threads of a process. Nothing is opened yet.
    pub(super) fn of(pid: u32) -> Self {
        Self {
            pid,
            folder: PathBuf::from(format!("/proc/{pid}/task")),
            most_open: MOST_OPEN,
            same_ids: shares_our_pid_namespace(pid).unwrap_or(true),
            ids: HashMap::new(),
            looked_up_ns: None,
            open: HashMap::new(),
        }
    }

    /// Those in another folder, which is like one of /proc, of a process in our PID namespace.
    #[cfg(test)]
    pub(super) fn under(folder: PathBuf) -> Self {
        Self {
            folder,
            same_ids: true,
            ..Self::of(std::process::id())
        }
    }

    /// Sets for how many threads files are kept open.
    pub(super) fn set_most_open(&mut self, most_open: usize) {
        self.most_open = most_open.max(1);
    }

    /// Reads a thread, by its id in its own PID namespace. `fresh_ns` is the age from which on its last reading does not
    /// count. `None` if there is no such thread, or it may not be read.
    pub(super) fn read(&mut self, thread: u64, now_ns: u64, fresh_ns: u64) -> Option<Account> {
        if !self.open.contains_key(&thread) {
            let opened = self.open(thread, now_ns)?;
            self.make_room();
            self.open.insert(thread, opened);
        }
        let account = self.open.get_mut(&thread)?.read(now_ns, fresh_ns);
        if account.is_none() {
            // It has ended.
            self.open.remove(&thread);
        }
        account
    }

    fn open(&mut self, thread: u64, now_ns: u64) -> Option<Thread> {
        let id = self.id_of(u32::try_from(thread).ok()?, now_ns)?;
        let folder = self.folder.join(id.to_string());
        Some(Thread {
            schedstat: File::open(folder.join("schedstat")).ok()?,
            stat: File::open(folder.join("stat")).ok()?,
            waiting: Waiting::default(),
        })
    }

    /// The id of a thread in our PID namespace.
    fn id_of(&mut self, thread: u32, now_ns: u64) -> Option<u32> {
        if self.same_ids {
            return Some(thread);
        }
        let is_old = |at_ns: u64| now_ns.saturating_sub(at_ns) >= LOOK_UP_NS;
        if !self.ids.contains_key(&thread) && self.looked_up_ns.is_none_or(is_old) {
            self.ids = ids_in_ours(self.pid);
            self.looked_up_ns = Some(now_ns);
        }
        self.ids.get(&thread).copied()
    }

    /// Closes threads that were not read for a while, nor within `fresh_ns`, so that their last readings do not count.
    pub(super) fn close_unused(&mut self, now_ns: u64, fresh_ns: u64) {
        let unused_ns = UNUSED_NS.max(fresh_ns);
        let is_used = |thread: &Thread| now_ns.saturating_sub(thread.waiting.at_ns) < unused_ns;
        self.open.retain(|_, thread| is_used(thread));
    }

    /// Closes the threads that were not read for the longest time, where there are too many.
    fn make_room(&mut self) {
        while self.open.len() >= self.most_open {
            let oldest = self.open.iter().min_by_key(|(_, thread)| thread.waiting.at_ns);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                return;
            };
            self.open.remove(&oldest);
        }
    }
}

impl Thread {
    fn read(&mut self, now_ns: u64, fresh_ns: u64) -> Option<Account> {
        let mut bytes = [0; FILE];
        let doing = match state(read(&self.stat, &mut bytes)?)? {
            b'R' => Doing::Able,
            b'S' | b'D' | b'I' => Doing::Asleep,
            _ => Doing::Halted,
        };
        let delay_ns = run_delay(read(&self.schedstat, &mut bytes)?)?;
        Some(Account {
            doing,
            waited: self.waiting.take(delay_ns, now_ns, fresh_ns),
        })
    }
}

impl Waiting {
    /// Takes a reading of `run_delay`. Returns the share of the time since the last one.
    fn take(&mut self, delay_ns: u64, now_ns: u64, fresh_ns: u64) -> Option<f64> {
        let before = self.delay_ns.replace(delay_ns);
        let length_ns = now_ns.saturating_sub(std::mem::replace(&mut self.at_ns, now_ns));
        let Some(before) = before.filter(|_| length_ns > 0 && length_ns <= fresh_ns) else {
            self.credit_ns = 0;
            return None;
        };
        let grown = delay_ns.saturating_sub(before);
        let waited = self.credit_ns.saturating_add(grown);
        let used = waited.min(length_ns);
        self.credit_ns = (waited - used).min(MOST_CREDIT_NS);
        Some(used as f64 / length_ns as f64)
    }
}

/// Reads a file of /proc from its begin.
fn read<'b>(file: &File, bytes: &'b mut [u8]) -> Option<&'b [u8]> {
    let length = file.read_at(bytes, 0).ok()?;
    bytes.get(..length).filter(|read| !read.is_empty())
}

/// The second number of a `schedstat`: nanoseconds that the thread could run and did not.
fn run_delay(schedstat: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(schedstat).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_wait_that_is_longer_than_the_time_between_readings_counts_in_full() {
        let mut waiting = Waiting::default();
        let mut take = |delay_ms: u64, at_ms: u64| waiting.take(delay_ms * MS, at_ms * MS, 30 * MS);
        assert_eq!(take(500, 1_000), None, "the first reading");
        assert_eq!(take(502, 1_010), Some(0.2));
        // It waits from here for 25 ms, which the kernel adds when they are over.
        assert_eq!(take(502, 1_020), Some(0.0));
        assert_eq!(take(502, 1_030), Some(0.0));
        let shares = [
            take(527, 1_040),
            take(527, 1_050),
            take(527, 1_060),
            take(527, 1_070),
        ];
        assert_eq!(shares, [Some(1.0), Some(1.0), Some(0.5), Some(0.0)]);
        // A reading that is too old says nothing of the time before.
        assert_eq!(take(600, 1_200), None);
        assert_eq!(take(601, 1_210), Some(0.1));
        assert_eq!(take(0, 1_220), Some(0.0), "it never falls");
    }

    #[test]
    fn between_readings_that_are_far_apart_all_of_a_wait_counts() {
        let mut waiting = Waiting::default();
        let mut take = |delay_ms: u64, at_ms: u64| waiting.take(delay_ms * MS, at_ms * MS, 20_000 * MS);
        assert_eq!(take(0, 1_000), None);
        assert_eq!(take(6_000, 9_000), Some(0.75));
        assert_eq!(take(16_000, 17_000), Some(1.0));
        // A second of the rest at most is credited.
        assert_eq!(take(16_000, 19_000), Some(0.5));
    }

    #[test]
    fn our_own_thread_can_run_and_one_that_is_not_there_is_none() {
        let mut threads = Threads::of(std::process::id());
        let own = u64::from(nix::unistd::gettid().as_raw().unsigned_abs());
        let first = threads.read(own, 1_000 * MS, 100 * MS).unwrap();
        assert_eq!((first.doing, first.waited), (Doing::Able, None));
        let second = threads.read(own, 1_010 * MS, 100 * MS).unwrap();
        assert_eq!(second.doing, Doing::Able);
        assert!(second.waited.is_some_and(|share| (0.0..=1.0).contains(&share)));
        for thread in [0, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(threads.read(thread, 1_020 * MS, 100 * MS), None);
        }
        assert_eq!(threads.open.len(), 1);
    }

    #[test]
    fn a_thread_that_sleeps_is_seen_and_one_that_has_ended_is_forgotten() {
        let (send, sent) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            send.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = ends.recv();
        });
        let id = u64::from(sent.recv().unwrap().unsigned_abs());
        let mut threads = Threads::of(std::process::id());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while threads.read(id, 5, 5).unwrap().doing != Doing::Asleep {
            assert!(std::time::Instant::now() < until, "it never sleeps");
        }
        end.send(()).unwrap();
        sleeper.join().unwrap();
        // The kernel may still be about to remove it.
        while threads.read(id, 6, 5).is_some() {
            assert!(std::time::Instant::now() < until, "it never ends");
        }
        assert!(threads.open.is_empty());
    }

    #[test]
    fn few_files_stay_open_whatever_threads_hold_ps() {
        let mut threads = Threads::of(std::process::id());
        let own = u64::from(nix::unistd::gettid().as_raw().unsigned_abs());
        for second in 0..3u64 {
            threads.read(own, second * 1_000 * MS, MS).unwrap();
            for other in 0..MOST_OPEN as u64 {
                let opened = threads.open(own, second * 1_000 * MS).unwrap();
                threads.make_room();
                threads.open.insert(1 << 40 | second << 20 | other, opened);
                assert!(threads.open.len() <= MOST_OPEN);
            }
        }
        threads.set_most_open(8);
        threads.make_room();
        assert_eq!(threads.open.len(), 7, "with room for one more");
        threads.open.clear();
        threads.read(own, 3_000 * MS, MS).unwrap();
        // Samples are far apart: it is still of use.
        threads.close_unused(6_000 * MS, 5_000 * MS);
        assert_eq!(threads.open.len(), 1);
        threads.close_unused(6_000 * MS, 100 * MS);
        assert!(threads.open.is_empty());
    }

    #[test]
    fn what_is_not_a_schedstat_is_not_read() {
        assert_eq!(run_delay(b"12 34 5\n"), Some(34));
        for hostile in [&b""[..], b"12\n", b"12 x 5", b"12 \xff 5"] {
            assert_eq!(run_delay(hostile), None);
        }
    }
}
