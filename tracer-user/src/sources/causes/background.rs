//! Takes samples on a thread of its own: the loop of a capture has other things to wait for, and a sample must not come
//! late for these.

use std::{
    fs,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::{pace::Pace, sampler::CauseSampler};
use crate::{
    clock::now_ns,
    error::{Error, Result},
    process::{
        Hierarchies, Throttling,
        memory::{Memory, ReadError},
        threads::folder,
    },
    stream::Observation,
    writing,
};

/// How long the stretches are whose sums are handed over: a capture of a second has twenty, from whose spread follows
/// how uncertain an estimate is.
const STRETCH_NS: u64 = 50_000_000;
/// How often the quotas of the target's cgroups are read, which seldom change.
const QUOTA_NS: u64 = 5_000_000_000;
/// How long the end of a capture waits for the last samples, which are there at once unless the target's memory does not
/// answer.
const LAST: Duration = Duration::from_millis(100);

/// The thread that takes samples of one process.
#[derive(Debug)]
pub struct Sampling {
    thread: Thread,
    shared: Arc<Shared>,
    samples: Receiver<Observation>,
}

/// What the thread shares with its owner.
#[derive(Debug, Default)]
struct Shared {
    /// Whether the thread is to end.
    is_over: AtomicBool,
    /// Why it has ended by itself.
    failure: OnceLock<ReadError>,
}

impl Sampling {
    /// Starts the thread, which takes so many samples a second, or fewer where they would cost too much. It ends when
    /// this is dropped.
    ///
    /// # Errors
    /// The thread cannot be created.
    pub fn start<M: Memory + Send + 'static>(
        sampler: CauseSampler<M>,
        pid: u32,
        per_second: u32,
    ) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let (send, samples) = channel();
        let pace = Pace::new(per_second, now_ns() ^ u64::from(pid));
        let its = Arc::clone(&shared);
        let run = move || {
            if let Err(e) = take_samples(sampler, pid, pace, &its.is_over, &send) {
                log::debug!("no more samples of why goroutines wait: {e}");
                // Before the other end of the channel sees that this one is closed.
                let _only_once = its.failure.set(e);
            }
        };
        // Nobody waits for its end: it touches nothing but memory of the target, by its PID, and files of /proc.
        let detached = writing::spawn("samples", run)
            .map_err(|e| Error::failed(format!("no thread could be made to take samples: {e}")))?;
        Ok(Self {
            thread: detached.thread().clone(),
            shared,
            samples,
        })
    }

    /// Why no more samples could be taken, if so; certain after [`Self::finish`].
    pub fn failure(&self) -> Option<&ReadError> {
        self.shared.failure.get()
    }

    /// Returns what was sampled since the last call.
    pub fn take(&self) -> Vec<Observation> {
        self.samples.try_iter().collect()
    }

    /// Takes no more samples; returns what was sampled since the last call.
    pub fn finish(&mut self) -> Vec<Observation> {
        self.end();
        let until = Instant::now() + LAST;
        let mut last = Vec::new();
        while let Ok(seen) = self
            .samples
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            last.push(seen);
        }
        last
    }

    fn end(&self) {
        self.shared.is_over.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.end();
    }
}

/// Takes samples until nobody wants them.
fn take_samples<M: Memory>(
    mut sampler: CauseSampler<M>,
    pid: u32,
    mut pace: Pace,
    is_over: &AtomicBool,
    send: &Sender<Observation>,
) -> std::result::Result<(), ReadError> {
    let hierarchies = Hierarchies::mounted();
    let (mut quota_due_ns, mut stretch_ns) = (0, now_ns());
    let (mut taken, mut cpu) = (0, own_cpu_time());
    loop {
        let now = now_ns();
        if now >= quota_due_ns {
            quota_due_ns = now.saturating_add(QUOTA_NS);
            sampler.set_throttling(throttling(pid, &hierarchies));
        }
        if let Err(e) = sampler.sample(now) {
            send_last(&mut sampler, send);
            return Err(e);
        }
        taken += 1;
        if now.saturating_sub(stretch_ns) >= STRETCH_NS {
            stretch_ns = now;
            if let Some(seen) = sampler.take()
                && send.send(seen).is_err()
            {
                return Ok(());
            }
            let before = std::mem::replace(&mut cpu, own_cpu_time());
            pace.add_cost(std::mem::take(&mut taken), cpu.saturating_sub(before));
        }
        // The shortest way to sleep: of a CPU that was idle all caches are cold, and each line that is touched costs. It may
        // end early without a reason; then a sample comes early.
        thread::park_timeout(pace.next());
        if is_over.load(Ordering::Acquire) {
            send_last(&mut sampler, send);
            return Ok(());
        }
    }
}

fn send_last<M: Memory>(sampler: &mut CauseSampler<M>, send: &Sender<Observation>) {
    if let Some(seen) = sampler.finish() {
        // Nobody may want it.
        let _ = send.send(seen);
    }
}

/// The files that count how long the cgroups of a process were throttled, of each that has a quota.
fn throttling(pid: u32, hierarchies: &Hierarchies) -> Vec<Throttling> {
    let text = fs::read(format!("{}/cgroup", folder(pid))).unwrap_or_default();
    let cgroups = hierarchies.of(text);
    cgroups.limited_throttling()
}

fn own_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
