//! The CPU time of a process, exact also for threads that run right now.
//!
//! The clock of a whole process is exact to the last tick of Linux's scheduler (`thread_group_cputime`,
//! kernel/sched/cputime.c), of up to 10 ms. That of a single thread is brought up to date when it is read
//! (`task_sched_runtime`, kernel/sched/core.c).

use std::{collections::BTreeMap, fs};

use nix::{time::ClockId, unistd::Pid};

/// Most threads whose clocks are read one by one.
const MOST_THREADS: usize = 128;

/// A reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuReading {
    /// By the clock of the process, in nanoseconds.
    process_ns: u64,
    /// By that of each thread, in nanoseconds; empty where there are too many.
    threads: BTreeMap<i32, u64>,
}

impl CpuReading {
    /// Reads the clocks; `None` where the process has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).ok()?;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let threads: Vec<i32> = tasks
            .flatten()
            .filter_map(|task| task.file_name().to_str()?.parse().ok())
            .take(MOST_THREADS + 1)
            .collect();
        let threads = match threads.len() <= MOST_THREADS {
            // One that ends meanwhile is absent.
            true => threads
                .into_iter()
                .filter_map(|thread| Some((thread, nanoseconds(clock_of_thread(thread))?)))
                .collect(),
            false => BTreeMap::new(),
        };
        Some(Self {
            process_ns: nanoseconds(clock)?,
            threads,
        })
    }

    /// Returns the CPU time since an earlier reading, in nanoseconds.
    pub fn since(&self, before: &Self) -> u64 {
        let all_are_there = before
            .threads
            .keys()
            .all(|thread| self.threads.contains_key(thread));
        if before.threads.is_empty() || self.threads.is_empty() || !all_are_there {
            return self.process_ns.saturating_sub(before.process_ns);
        }
        // A thread that is new has used all its time since.
        let of = |reading: &Self| {
            reading
                .threads
                .values()
                .fold(0, |sum: u64, ns| sum.saturating_add(*ns))
        };
        of(self).saturating_sub(of(before))
    }
}

fn nanoseconds(clock: ClockId) -> Option<u64> {
    let now = clock.now().ok()?;
    let seconds = u64::try_from(now.tv_sec()).ok()?;
    let rest = u64::try_from(now.tv_nsec()).ok()?;
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(rest))
}

/// The clock of one thread, whatever process it is of: `MAKE_THREAD_CPUCLOCK` with `CPUCLOCK_SCHED`
/// (include/linux/posix-timers.h).
fn clock_of_thread(thread: i32) -> ClockId {
    ClockId::from_raw((!thread << 3) | 4 | 2)
}

#[cfg(test)]
mod tests {
    use std::{
        process::id,
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        },
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn time_that_a_running_thread_uses_is_seen_at_once() {
        let (used, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let busy = thread::spawn({
            let (used, is_over) = (Arc::clone(&used), Arc::clone(&is_over));
            move || {
                while !is_over.load(SeqCst) {
                    used.store(nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0), SeqCst);
                }
            }
        });
        let millisecond = 1_000_000;
        for _ in 0..20 {
            let before = CpuReading::of(id()).expect("we run");
            let begin = used.load(SeqCst);
            while used.load(SeqCst) < begin + millisecond {
                thread::sleep(Duration::from_micros(50));
            }
            let since = CpuReading::of(id()).expect("we run").since(&before);
            assert!(since >= millisecond, "{since} ns");
        }
        is_over.store(true, SeqCst);
        busy.join().expect("it only counts");
    }

    #[test]
    fn a_thread_that_ends_is_counted_by_the_clock_of_the_process() {
        let reading = |process_ns, threads: &[(i32, u64)]| CpuReading {
            process_ns,
            threads: threads.iter().copied().collect(),
        };
        let before = reading(100, &[(1, 50), (2, 60)]);
        assert_eq!(reading(130, &[(1, 70), (2, 60), (3, 5)]).since(&before), 25);
        assert_eq!(reading(130, &[(1, 70), (3, 5)]).since(&before), 30);
        assert_eq!(reading(130, &[]).since(&before), 30);
    }

    #[test]
    fn a_process_that_is_gone_has_no_reading() {
        assert_eq!(CpuReading::of(u32::MAX), None);
        assert_eq!(CpuReading::of(0), None);
    }
}
