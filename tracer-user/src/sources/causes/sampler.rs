//! Takes samples of one target.

use nix::time::ClockId;
use nix::unistd::Pid;

use super::batch::{Batch, Sample};
use super::reader::{Seen, StateReader};
use super::shares::Shares;
use super::stall::{Stall, Used};
use super::state::{Holder, P, State};
use super::threads::{Account, Threads};
use crate::binary::Globals;
use crate::binary::layout::Layout;
use crate::model::sched::Cause;
use crate::process::Throttling;
use crate::process::memory::{Memory, ReadError};
use crate::stream::transition::status;
use crate::stream::{Kind, Observation};

/// A sample stands for the time since the one before it, but not for more, unless another bound is set: what the target
/// did then is not known.
const MOST_NS: u64 = 2_000_000_000;
/// Ps whose threads are looked at in one sample, since that costs some 5 microseconds for each. Where more are held, these
/// stand for all, and others are taken after a while.
const LOOKED_AT: usize = 2;
/// For how many samples the same ones are looked at, where there are more.
const TURN: usize = 8;
/// For how many threads a sampler keeps files open that is one of many.
const FEW_OPEN: usize = 8;
/// Where all Ps are idle, it is read this often what they have run meanwhile.
const TICKS_NS: u64 = 50_000_000;
/// A reading of a thread counts if the one before it is not older than two samples and this.
const FRESH_NS: u64 = 20_000_000;

/// Takes samples of why goroutines of one process wait to run.
#[derive(Debug)]
pub struct CauseSampler<M> {
    reader: StateReader<M>,
    /// What was read last.
    state: State,
    threads: Threads,
    /// The CPU clock of the process.
    clock: Option<ClockId>,
    /// The files that count how long its cgroups were throttled; none without a quota.
    throttling: Vec<Throttling>,
    /// CPUs of this machine.
    cpus: u64,
    stall: Stall,
    batch: Batch,
    /// A sample stands for no more than this.
    most_ns: u64,
    /// Samples in which threads were looked at.
    looks: usize,
    /// The share of the time in which threads waited for a CPU, when that was last known.
    usual: Option<f64>,
    /// Ps that are looked at, those of them that an M still holds, and what the kernel says of these. Kept for their
    /// memory.
    chosen: Vec<P>,
    holders: Vec<Holder>,
    looked_at: Vec<(Holder, Option<Account>)>,
    /// `p.schedtick` of each P when it was last read.
    ticks: Vec<u32>,
    /// When that was, CLOCK_MONOTONIC.
    ticks_ns: Option<u64>,
    /// When the last sample was taken, CLOCK_MONOTONIC.
    last_ns: Option<u64>,
}

impl<M: Memory> CauseSampler<M> {
    /// A sampler of process `pid`, over its memory. `globals` are link-time addresses. `None` where one that it needs
    /// is not known. Nothing of the process's memory is read yet.
    pub fn new(memory: M, pid: u32, globals: &Globals, bias: u64, layout: &Layout) -> Option<Self> {
        let reader = StateReader::new(memory, globals, bias, layout)?;
        let clock = i32::try_from(pid).ok().map(Pid::from_raw);
        Some(Self {
            reader,
            state: State::default(),
            threads: Threads::of(pid),
            clock: clock.and_then(|pid| ClockId::pid_cpu_clock_id(pid).ok()),
            throttling: Vec::new(),
            cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
            stall: Stall::default(),
            batch: Batch::default(),
            most_ns: MOST_NS,
            looks: 0,
            usual: None,
            chosen: Vec::new(),
            holders: Vec::new(),
            looked_at: Vec::new(),
            ticks: Vec::new(),
            ticks_ns: None,
            last_ns: None,
        })
    }

    /// Sets the minor version of the target's Go: 27 for Go 1.27.3. Without it no goroutine is known to help the collector.
    #[must_use]
    pub fn of_go(mut self, minor: u32) -> Self {
        self.reader.set_minor(minor);
        self
    }

    /// Keeps few files open, for where many processes are sampled.
    #[must_use]
    pub fn with_few_files(mut self) -> Self {
        self.threads.set_most_open(FEW_OPEN);
        self
    }

    /// Takes these for the threads of the process.
    #[cfg(test)]
    pub(super) fn with_threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }

    /// Sets for how much time a sample stands at most: somewhat more than samples are apart.
    pub fn set_most(&mut self, most_ns: u64) {
        self.most_ns = most_ns;
    }

    /// Sets the files that count how long its cgroups were throttled, of each that has a quota: none if there is no quota.
    pub fn set_throttling(&mut self, throttling: Vec<Throttling>) {
        if throttling != self.throttling {
            self.stall.forget();
            self.throttling = throttling;
        }
    }

    /// Takes a sample; `now_ns` is CLOCK_MONOTONIC. The first one is only what the next counts from.
    ///
    /// # Errors
    /// The process is gone, or may not be read. A sample in which something else could not be read is dropped, and counted.
    pub fn sample(&mut self, now_ns: u64) -> Result<(), ReadError> {
        let mut state = std::mem::take(&mut self.state);
        let taken = self.sample_into(&mut state, now_ns);
        self.state = state;
        taken
    }

    fn sample_into(&mut self, state: &mut State, now_ns: u64) -> Result<(), ReadError> {
        let is_old = |at_ns: u64| now_ns.saturating_sub(at_ns) >= TICKS_NS;
        let ticks = self.ticks_ns.is_none_or(is_old);
        let seen = self.reader.read(state, ticks).map(Some).or_else(unless_gone)?;
        let executed = match seen {
            Some(Seen::All) => self.count_executed(state, now_ns),
            // They count with a later sample.
            Some(Seen::Idle) => 0,
            Some(Seen::Torn) | None => {
                self.batch.add_torn();
                return Ok(());
            }
        };
        let last_ns = self.last_ns.replace(now_ns);
        let real_ns = last_ns.map_or(0, |last_ns| now_ns.saturating_sub(last_ns));
        let fresh_ns = real_ns.saturating_mul(2).saturating_add(FRESH_NS);
        let wants = state.runnable > 0;
        let used = Used {
            at_ns: now_ns,
            length_ns: real_ns,
            cpu_ns: self.cpu_ns(),
            wants,
            parallel: (state.held().count() as u64).min(self.cpus),
        };
        let throttling = &self.throttling;
        let progress = self.stall.take(used, || {
            let levels = throttling.iter();
            levels.map(|level| Some(level.read()?.time_ns)).collect()
        });
        let shares = match wants {
            true => match Shares::of_program(state) {
                Some(shares) => shares,
                None => self.shares_of_ps(state, now_ns, fresh_ns)?,
            },
            // Nobody waits, so that it has no weight.
            false => Shares::whole(Cause::Unknown),
        };
        self.threads.close_unused(now_ns, fresh_ns);
        if real_ns == 0 {
            return Ok(());
        }
        let length_ns = real_ns.min(self.most_ns);
        // Of the time that it does not stand for, nothing counts.
        let executed = u128::from(executed) * u128::from(length_ns) / u128::from(real_ns);
        self.batch
            .add_executed(u64::try_from(executed).unwrap_or(u64::MAX));
        let sample = Sample {
            length_ns,
            runnable: state.runnable,
            shares,
        };
        self.batch.add(sample, progress);
        Ok(())
    }

    /// Returns what was sampled since the last call; `None` if nothing was. A few samples may be left for the next call,
    /// until it is known whether the target was throttled.
    pub fn take(&mut self) -> Option<Observation> {
        let samples = self.batch.take()?;
        Some(Observation {
            at_ns: self.last_ns.unwrap_or(0),
            kind: Kind::CauseSamples(samples),
        })
    }

    /// Returns the rest of what was sampled, after the last sample for now.
    pub fn finish(&mut self) -> Option<Observation> {
        self.batch.settle();
        self.reader.release();
        self.take()
    }

    /// Returns how many goroutines Ps have taken to run since that was last read, of the Ps that there were.
    fn count_executed(&mut self, state: &State, now_ns: u64) -> u64 {
        self.ticks_ns = Some(now_ns);
        let grown = state.ps.iter().zip(&self.ticks);
        let executed = grown
            .map(|(p, before)| u64::from(p.schedtick.wrapping_sub(*before)))
            .sum();
        self.ticks.clear();
        self.ticks.extend(state.ps.iter().map(|p| p.schedtick));
        executed
    }

    /// Reads the CPU clock of the process, where its cgroup has a quota.
    fn cpu_ns(&self) -> Option<u64> {
        let clock = self.clock.filter(|_| !self.throttling.is_empty())?;
        let time = clock.now().ok()?;
        let seconds = u64::try_from(time.tv_sec()).ok()?;
        let rest = u64::try_from(time.tv_nsec()).ok()?;
        Some(seconds.saturating_mul(1_000_000_000).saturating_add(rest))
    }

    fn shares_of_ps(&mut self, state: &State, now_ns: u64, fresh_ns: u64) -> Result<Shares, ReadError> {
        let held = state.held().count();
        let first = (self.looks / TURN).wrapping_mul(LOOKED_AT);
        self.looks = self.looks.wrapping_add(1);
        let first = first.checked_rem(held).unwrap_or(0);
        let chosen = state.held().cycle().skip(first).take(held.min(LOOKED_AT));
        self.chosen.clear();
        self.chosen.extend(chosen);
        let read = self.reader.holders(&self.chosen, &mut self.holders);
        if read.map(Some).or_else(unless_gone)?.is_none() {
            self.holders.clear();
        }
        self.looked_at.clear();
        for holder in &self.holders {
            // Whether its thread sleeps does not matter where that is in a system call.
            let is_in_syscall = holder.goroutine == Some(status::SYSCALL);
            let account = match is_in_syscall {
                true => None,
                false => self.threads.read(holder.thread, now_ns, fresh_ns),
            };
            self.looked_at.push((*holder, account));
        }
        self.usual = Shares::usual(&self.looked_at).or(self.usual);
        Ok(Shares::of_ps(state, &self.looked_at, self.usual))
    }
}

/// Leaves out what cannot be read, unless the process cannot be read at all.
fn unless_gone<T>(e: ReadError) -> Result<Option<T>, ReadError> {
    match e {
        ReadError::Gone { .. } | ReadError::NotPermitted { .. } => Err(e),
        _ => {
            log::debug!("a sample is dropped: {e}");
            Ok(None)
        }
    }
}
