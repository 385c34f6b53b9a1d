//! Takes samples of one target.

use nix::time::ClockId;
use nix::unistd::Pid;

use super::batch::{Batch, Sample};
use super::shares::Shares;
use super::stall::{Stall, Used};
use super::state::{Holder, P, State, StateReader};
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
/// Ps whose threads are looked at in one sample, since that costs some microseconds for each. Where more are held, these
/// stand for all, and others are taken after a while.
const LOOKED_AT: usize = 4;
/// For how many samples the same ones are looked at, where there are more.
const TURN: usize = 8;
/// For how many threads a sampler keeps files open that is one of many.
const FEW_OPEN: usize = 8;
/// A reading of a thread counts if the one before it is not older than two samples and this.
const FRESH_NS: u64 = 20_000_000;

/// Takes samples of why goroutines of one process wait to run.
#[derive(Debug)]
pub struct CauseSampler<M> {
    reader: StateReader<M>,
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
    /// `p.schedtick` of each P at the last sample.
    ticks: Vec<u32>,
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
            threads: Threads::of(pid),
            clock: clock.and_then(|pid| ClockId::pid_cpu_clock_id(pid).ok()),
            throttling: Vec::new(),
            cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
            stall: Stall::default(),
            batch: Batch::default(),
            most_ns: MOST_NS,
            looks: 0,
            usual: None,
            ticks: Vec::new(),
            last_ns: None,
        })
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
        let state = match self.reader.read().or_else(unless_gone)? {
            Some(state) => state,
            None => {
                self.batch.add_torn();
                return Ok(());
            }
        };
        let executed = self.count_executed(&state);
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
            true => match Shares::of_program(&state) {
                Some(shares) => shares,
                None => self.shares_of_ps(&state, now_ns, fresh_ns)?,
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

    /// Returns the rest of what was sampled, after the last sample.
    pub fn finish(&mut self) -> Option<Observation> {
        self.batch.settle(false);
        self.take()
    }

    /// Returns how many goroutines Ps have taken to run since the last sample, of the Ps that there were.
    fn count_executed(&mut self, state: &State) -> u64 {
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
        let held: Vec<P> = state.held().copied().collect();
        let first = (self.looks / TURN).wrapping_mul(LOOKED_AT);
        self.looks = self.looks.wrapping_add(1);
        let first = first.checked_rem(held.len()).unwrap_or(0);
        let looked_at = held.len().min(LOOKED_AT);
        let chosen: Vec<P> = held.iter().cycle().skip(first).take(looked_at).copied().collect();
        let read = self.reader.holders(&chosen).map(Some).or_else(unless_gone)?;
        let holders = read.unwrap_or_default().into_iter().flatten();
        let threads = &mut self.threads;
        let mut account = |holder: &Holder| -> Option<Account> {
            // Whether its thread sleeps does not matter then.
            let is_in_syscall = holder.goroutine == Some(status::SYSCALL);
            match is_in_syscall {
                true => None,
                false => threads.read(holder.thread, now_ns, fresh_ns),
            }
        };
        let holders: Vec<(Holder, Option<Account>)> =
            holders.map(|holder| (holder, account(&holder))).collect();
        self.usual = Shares::usual(&holders).or(self.usual);
        Ok(Shares::of_ps(state, &holders, self.usual))
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
