//! Goroutines by state: a walk over `runtime.allgs` within a budget of CPU time.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::binary::Globals;
use crate::binary::layout::G;
use crate::process::memory::{Memory, ReadError};
use crate::stream::Snapshot;

use super::counters::MAX_GS;
use super::estimate::{Estimate, estimate};
use super::shuffled::Shuffled;

/// Our own CPU time that walking may take per second of the target's life.
const BUDGET_PER_SECOND: Duration = Duration::from_millis(5);
/// Most CPU time that one walk may take, however long ago the last one was.
const LONGEST: Duration = Duration::from_millis(50);
/// Least time from one walk to the next: one batch takes about the millisecond that this earns. Calls in between get the
/// last walk's result.
const SHORTEST_PAUSE_NS: u64 = 200_000_000;
/// Goroutines that are read between checks of the clock, by one `process_vm_readv`.
pub(super) const BATCH: usize = 1024;

/// `_Gscan`: the GC is scanning the goroutine's stack. The other bits are its state.
pub(super) const G_SCAN: u32 = 0x1000;
const G_DEAD: u32 = 6;
const G_DEADEXTRA: u32 = 11;

/// Names of a goroutine's states by number (`runtime/runtime2.go` and `gStatusStrings` in
/// `runtime/traceback.go`; 10 and 11 from Go 1.26 on).
const G_STATES: [&str; 12] = [
    "idle",
    "runnable",
    "running",
    "syscall",
    "waiting",
    "moribund",
    "dead",
    "enqueue",
    "copystack",
    "preempted",
    "leaked",
    "deadextra",
];

/// The last walk and its result.
#[derive(Debug)]
pub(super) struct Walk {
    per_second: Duration,
    last_ns: Option<u64>,
    last: Option<Found>,
}

/// The result of a walk.
#[derive(Clone, Debug)]
struct Found {
    length: u64,
    visited: u64,
    /// Those of them that live, by the runtime's own counters.
    live: Option<u64>,
    /// Those that were read by state, without the scan bit.
    counts: BTreeMap<u32, u64>,
}

impl Found {
    /// The states of living goroutines with what was counted of each. From Go 1.26 on, `deadextra` is a dead g that waits
    /// for a callback from C.
    fn living(&self) -> impl Iterator<Item = (u32, u64)> {
        let counts = self.counts.iter().map(|(status, count)| (*status, *count));
        counts.filter(|(status, _)| ![G_DEAD, G_DEADEXTRA].contains(status))
    }

    /// Estimates from `count` gs that were read how many there are.
    ///
    /// Where the runtime's counters say how many live, those that were read and live are a random sample of these: what
    /// share of `allgs` is dead, which the sample shows badly after a burst, does not matter then.
    fn estimate(&self, count: u64) -> Estimate {
        if self.visited >= self.length {
            return estimate(count, self.visited, self.visited);
        }
        match self.live {
            Some(live) => {
                let sample = self.sampled_living();
                estimate(count, sample, live.max(sample))
            }
            None => estimate(count, self.visited, self.length),
        }
    }

    fn sampled_living(&self) -> u64 {
        self.living().map(|(_, count)| count).sum()
    }

    /// Writes the result into a snapshot, whose counters may be of a later moment.
    fn write(&self, into: &mut Snapshot) {
        into.allgs = Some(self.length);
        into.goroutines_read = Some(self.visited);
        into.goroutines_sampled = self.visited < self.length;
        let estimates: Vec<(String, Estimate)> = self
            .living()
            .map(|(status, count)| (state_name(status), self.estimate(count)))
            .collect();
        if into.goroutines_sampled {
            let ranges = estimates.iter().map(|(state, found)| {
                let (low, high) = found.range;
                (state.clone(), low, high)
            });
            into.goroutines_by_state_range = ranges.collect();
            if into.goroutines_live.is_none() {
                into.goroutines_live_range = Some(self.estimate(self.sampled_living()).range);
            }
        }
        into.goroutines_by_state = estimates
            .into_iter()
            .map(|(state, found)| (state, found.value))
            .collect();
    }
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            per_second: BUDGET_PER_SECOND,
            last_ns: None,
            last: None,
        }
    }
}

impl Walk {
    /// Limits the walk to this CPU time per second, if that is less than the usual.
    pub(super) fn allow(&mut self, per_second: Duration) {
        self.per_second = per_second.min(BUDGET_PER_SECOND);
    }

    /// Counts the goroutines by state into the snapshot: all of them or, where there is not enough time, estimates from a
    /// random sample. Expects the runtime's counters to be in the snapshot already.
    pub(super) fn read(
        &mut self,
        memory: &impl Memory,
        globals: &Globals,
        layout: &G,
        now_ns: u64,
        into: &mut Snapshot,
    ) -> Result<(), ReadError> {
        let Some(address) = globals.allgs else {
            return Ok(());
        };
        let is_due = self
            .last_ns
            .is_none_or(|at| now_ns.saturating_sub(at) >= SHORTEST_PAUSE_NS);
        if is_due {
            let budget = self.budget(now_ns);
            // Another sample each time.
            self.last = walk(memory, address, layout, budget, now_ns)?.map(|found| Found {
                live: into.goroutines_live,
                ..found
            });
        }
        if let Some(found) = &self.last {
            found.write(into);
        }
        Ok(())
    }

    /// The CPU time that a walk at `now_ns` may take; records that it takes place.
    fn budget(&mut self, now_ns: u64) -> Duration {
        let Some(last_ns) = self.last_ns.replace(now_ns) else {
            return self.per_second;
        };
        let since = Duration::from_nanos(now_ns.saturating_sub(last_ns));
        self.per_second.mul_f64(since.as_secs_f64()).min(LONGEST)
    }
}

/// Reads the states of the goroutines in the slice at `allgs`, as many as the budget allows, in an order that depends on
/// `seed`. `None` if that is not plausibly a slice.
fn walk(
    memory: &impl Memory,
    allgs: u64,
    layout: &G,
    budget: Duration,
    seed: u64,
) -> Result<Option<Found>, ReadError> {
    let mut slice = [0; 2];
    memory.read_u64s(allgs, &mut slice)?;
    let [pointer, length] = slice;
    if length == 0 || length > MAX_GS {
        return Ok(None);
    }
    let started = own_cpu_time();
    let mut found = Found {
        length,
        visited: 0,
        live: None,
        counts: BTreeMap::new(),
    };
    let mut order = Shuffled::new(length, seed);
    let mut addresses = Vec::with_capacity(BATCH);
    let mut bytes = vec![0; BATCH * 8];
    while found.visited < length && (found.visited == 0 || own_cpu_time().saturating_sub(started) < budget) {
        addresses.clear();
        let batch = order.by_ref().take(BATCH);
        addresses.extend(batch.map(|i| pointer.wrapping_add(i.wrapping_mul(8))));
        let batch = addresses.len();
        let Some(gs) = bytes.get_mut(..batch * 8) else {
            break;
        };
        memory.read_each(&addresses, 8, gs)?;
        addresses.clear();
        for g in gs.as_chunks().0 {
            let status = u64::from(layout.atomicstatus);
            addresses.push(u64::from_ne_bytes(*g).wrapping_add(status));
        }
        let Some(statuses) = bytes.get_mut(..batch * 4) else {
            break;
        };
        memory.read_each(&addresses, 4, statuses)?;
        for status in statuses.as_chunks().0 {
            let state = u32::from_ne_bytes(*status) & !G_SCAN;
            *found.counts.entry(state).or_default() += 1;
        }
        found.visited += batch as u64;
    }
    Ok(Some(found))
}

fn state_name(status: u32) -> String {
    G_STATES
        .get(status as usize)
        .map_or_else(|| format!("status {status}"), |name| name.to_string())
}

/// CPU time of this thread.
pub(super) fn own_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_five_milliseconds_a_second() {
        let mut walk = Walk::default();
        let second = 1_000_000_000;
        assert_eq!(walk.budget(7 * second), Duration::from_millis(5));
        assert_eq!(walk.budget(8 * second), Duration::from_millis(5));
        assert_eq!(
            walk.budget(8 * second + SHORTEST_PAUSE_NS),
            Duration::from_millis(1)
        );
        assert_eq!(walk.budget(100 * second), Duration::from_millis(50));
    }
}
