//! Goroutines by state: a walk over `runtime.allgs` within a budget of CPU time.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::binary::Globals;
use crate::binary::layout::G;
use crate::process::memory::{Memory, ReadError};
use crate::stream::Snapshot;

/// Our own CPU time that walking may take per second of the target's life.
const BUDGET_PER_SECOND: Duration = Duration::from_millis(5);
/// Most CPU time that one walk may take, however long ago the last one was.
const LONGEST: Duration = Duration::from_millis(50);
/// Least time from one walk to the next: one batch takes about the millisecond that this earns. Calls in between get the
/// last walk's result.
const SHORTEST_PAUSE_NS: u64 = 200_000_000;
/// Goroutines that are read between checks of the clock, by one `process_vm_readv`.
pub(super) const BATCH: usize = 1024;
/// Longest `allgs` that is believed: 2^32 g structs would be 1.9 TB.
pub(super) const MAX_GS: u64 = 1 << 32;

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
    /// Goroutines by state, without the scan bit.
    counts: BTreeMap<u32, u64>,
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

    /// Counts the goroutines by state into the snapshot: all of them or, where there is not enough time, a sample that is
    /// scaled up.
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
            self.last = walk(memory, address, layout, budget)?;
        }
        let Some(found) = &self.last else {
            return Ok(());
        };
        into.allgs = Some(found.length);
        into.goroutines_sampled = found.visited < found.length;
        into.goroutines_by_state = found
            .counts
            .iter()
            // From Go 1.26 on, `deadextra` is a dead g that waits for a callback from C.
            .filter(|(status, _)| ![G_DEAD, G_DEADEXTRA].contains(status))
            .map(|(status, count)| (state_name(*status), scaled(*count, found.length, found.visited)))
            .collect();
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

/// Reads the states of the goroutines in the slice at `allgs`, as many as the budget allows. `None` if that is not
/// plausibly a slice.
fn walk(memory: &impl Memory, allgs: u64, layout: &G, budget: Duration) -> Result<Option<Found>, ReadError> {
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
        counts: BTreeMap::new(),
    };
    let mut order = Scattered::new(length);
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

/// Scales `count` of `visited` to `length`, rounded.
fn scaled(count: u64, length: u64, visited: u64) -> u64 {
    let scaled =
        (u128::from(count) * u128::from(length) + u128::from(visited) / 2) / u128::from(visited.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
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

/// Every number below a length once, in an order of which every prefix is spread evenly over the whole: wherever the walk
/// is cut short, it has seen old goroutines (which are at the front of `allgs`) and young ones alike.
pub(super) struct Scattered {
    length: u64,
    step: u64,
    next: u64,
    left: u64,
}

impl Scattered {
    /// Every number below `length`, which is not 0.
    pub(super) fn new(length: u64) -> Self {
        // A step near the golden section of the length scatters best; being coprime to it, it reaches every number.
        let mut step = (length as f64 * 0.618_033_988_749_895) as u64;
        while gcd(step, length) != 1 {
            step += 1;
        }
        Self {
            length,
            step,
            next: 0,
            left: length,
        }
    }
}

impl Iterator for Scattered {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let current = self.next;
        self.next = (current + self.step) % self.length;
        Some(current)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scattered_order_meets_every_number_once_and_begins_evenly() {
        for length in [1, 2, 3, 4, 6, 97, 1000, 1024, 100_000] {
            let order: Vec<u64> = Scattered::new(length).collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..length), "{length}");
            if length >= 1000 {
                let front = order[..500].iter().filter(|i| **i < length / 10).count();
                assert!(
                    (45..=55).contains(&front),
                    "{front} of the first 500 lie in the first tenth of {length}"
                );
            }
        }
    }

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
