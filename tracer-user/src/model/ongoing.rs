//! What has begun and is not over at a moment: goroutines in a state that they have not left, and a stop of the world.
//!
//! All of it is missing from figures that count what has ended. Its lengths are lower bounds.

use std::cmp::Reverse;

use crate::stream::Origin;
use crate::stream::ongoing::{OngoingSeen, StillRunnable};

/// A goroutine that could run for so long, and did not, is starved: preemption takes turns of 10 ms.
pub const STARVED_NS: u64 = 1_000_000_000;
/// The number of stretches that are kept one by one.
const KEPT: usize = 10;

/// What has begun and is not over. A part that is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ongoing {
    /// Goroutines that could run and did not.
    pub runnable: Option<Stretches>,
    /// Goroutines that ran.
    pub running: Option<Stretches>,
    /// Goroutines in system calls.
    pub syscalls: Option<Stretches>,
    /// The stop of the world, if there was one.
    pub stop: Option<Stop>,
}

/// Goroutines in one state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretches {
    /// How many there were.
    pub count: u64,
    /// Those of them of which no moment is known at which they were in the state already.
    pub unknown: u64,
    /// Those of them that had been in it for at least [`STARVED_NS`].
    pub starved: u64,
    /// How long each of these had been in it, at least; `None` if there were none.
    pub starved_ns: Option<u64>,
    /// How many g structs were read, of how many, where that was not all: goroutines may be missing.
    pub read: Option<(u64, u64)>,
    /// The longest, the longest first.
    pub longest: Vec<Stretch>,
}

/// A goroutine that had not left its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its id; 0 where it is not known.
    pub goid: u64,
    /// `g.gopc`; 0 where it is not known.
    pub gopc: u64,
    /// How it became runnable, if it was, where that is known.
    pub origin: Option<Origin>,
    /// How long it had been in the state, at least.
    pub at_least_ns: u64,
    /// Whether the begin is known; else the goroutine was in the state already when it was first seen.
    pub is_begin_known: bool,
}

/// A stop of the world that was not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// How long it had taken, at least; `None` where it was seen only once.
    pub at_least_ns: Option<u64>,
    /// The runtime's `stwReason`, where it is known.
    pub reason: Option<u8>,
    /// Ps that had not stopped, where that was read.
    pub not_stopped: Option<u32>,
}

impl Stop {
    /// The runtime's own words for the reason. Source: `stwReasonStrings` in proc.go, the same from Go 1.21 to 1.27.
    pub fn reason_name(&self) -> Option<&'static str> {
        const NAMES: [&str; 12] = [
            "unknown",
            "GC mark termination",
            "GC sweep termination",
            "write heap dump",
            "goroutine profile",
            "goroutine profile cleanup",
            "all goroutines stack trace",
            "read mem stats",
            "AllThreadsSyscall",
            "GOMAXPROCS",
            "start trace",
            "stop trace",
        ];
        NAMES.get(usize::from(self.reason?)).copied()
    }
}

impl Stretches {
    /// Adds a goroutine.
    pub fn add(&mut self, stretch: Stretch) {
        self.count += 1;
        if stretch.at_least_ns >= STARVED_NS {
            self.starved += 1;
            let shortest_ns = self.starved_ns.unwrap_or(u64::MAX);
            self.starved_ns = Some(shortest_ns.min(stretch.at_least_ns));
        }
        let key = |stretch: &Stretch| (Reverse(stretch.at_least_ns), stretch.goid);
        let at = self
            .longest
            .partition_point(|longer| key(longer) <= key(&stretch));
        if at < KEPT {
            self.longest.insert(at, stretch);
            self.longest.truncate(KEPT);
        }
    }

    /// Adds goroutines of which it is not known since when they are in the state.
    pub fn add_unknown(&mut self, count: u64) {
        self.count = self.count.saturating_add(count);
        self.unknown = self.unknown.saturating_add(count);
    }

    /// The longest time that one of them had been in the state, at least.
    pub fn longest_ns(&self) -> Option<u64> {
        self.longest.first().map(|stretch| stretch.at_least_ns)
    }
}

impl Ongoing {
    /// Takes what was read at `at_ns` from the target, in a window that began at `begin_ns`.
    pub fn of_seen(seen: &OngoingSeen, at_ns: u64, begin_ns: u64) -> Self {
        Self {
            runnable: seen
                .runnable
                .as_ref()
                .map(|runnable| stretches_of(runnable, at_ns, begin_ns)),
            running: None,
            syscalls: None,
            stop: seen.stop.map(|stop| Stop {
                at_least_ns: at_ns.checked_sub(stop.since_ns).filter(|ns| *ns > 0),
                reason: None,
                not_stopped: Some(stop.not_stopped),
            }),
        }
    }
}

fn stretches_of(runnable: &StillRunnable, at_ns: u64, begin_ns: u64) -> Stretches {
    let mut stretches = Stretches {
        read: (runnable.read < runnable.all).then_some((runnable.read, runnable.all)),
        ..Stretches::default()
    };
    for goroutine in &runnable.goroutines {
        let since_ns = goroutine
            .since_ns
            .or(goroutine.throughout.then_some(begin_ns))
            .or(goroutine.seen_ns);
        if let Some(since_ns) = since_ns {
            stretches.add(Stretch {
                goid: goroutine.goid,
                gopc: goroutine.gopc,
                origin: goroutine.origin.and_then(Origin::from_u8),
                at_least_ns: at_ns.saturating_sub(since_ns),
                is_begin_known: goroutine.since_ns.is_some(),
            });
        }
    }
    // Of those that are not listed, the begins were not kept.
    stretches.add_unknown(runnable.count.saturating_sub(stretches.count));
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::ongoing::{RunnableGoroutine, StillStopped};

    const SECOND: u64 = 1_000_000_000;

    fn goroutine(goid: u64, since_ns: Option<u64>, throughout: bool) -> RunnableGoroutine {
        RunnableGoroutine {
            goid,
            gopc: 0x401_000,
            since_ns,
            throughout,
            seen_ns: None,
            origin: None,
        }
    }

    #[test]
    fn a_begin_before_the_window_counts_from_there_and_one_that_is_not_known_from_the_window() {
        let seen = OngoingSeen {
            runnable: Some(StillRunnable {
                read: 50,
                all: 90,
                count: 6,
                goroutines: vec![
                    goroutine(3, Some(2 * SECOND), false),
                    goroutine(1, None, true),
                    goroutine(2, Some(12 * SECOND), false),
                    goroutine(4, None, false),
                    RunnableGoroutine {
                        seen_ns: Some(12_500_000_000),
                        ..goroutine(5, None, false)
                    },
                ],
            }),
            stop: Some(StillStopped {
                since_ns: 11 * SECOND,
                not_stopped: 1,
            }),
        };
        let ongoing = Ongoing::of_seen(&seen, 13 * SECOND, 10 * SECOND);
        let runnable = ongoing.runnable.unwrap();
        let longest = runnable.longest.iter();
        let longest: Vec<_> = longest
            .map(|stretch| (stretch.goid, stretch.at_least_ns / SECOND, stretch.is_begin_known))
            .collect();
        assert_eq!(
            longest,
            [(3, 11, true), (1, 3, false), (2, 1, true), (5, 0, false)]
        );
        assert_eq!((runnable.count, runnable.unknown, runnable.starved), (6, 2, 3));
        assert_eq!(runnable.read, Some((50, 90)));
        let stop = ongoing.stop.unwrap();
        assert_eq!((stop.at_least_ns, stop.not_stopped), (Some(2 * SECOND), Some(1)));
        // A stop that only the last reading shows has no known length.
        let ongoing = Ongoing::of_seen(&seen, 11 * SECOND, 10 * SECOND);
        assert_eq!(ongoing.stop.unwrap().at_least_ns, None);
    }

    #[test]
    fn the_longest_are_kept_and_all_are_counted() {
        let mut stretches = Stretches::default();
        for n in 0..100 {
            stretches.add(Stretch {
                goid: n,
                gopc: 0,
                origin: None,
                at_least_ns: n * 7 % 50 * SECOND / 10,
                is_begin_known: true,
            });
        }
        assert_eq!((stretches.count, stretches.longest.len()), (100, KEPT));
        assert_eq!(stretches.longest_ns(), Some(49 * SECOND / 10));
        assert!(
            stretches
                .longest
                .is_sorted_by_key(|stretch| (Reverse(stretch.at_least_ns), stretch.goid))
        );
        assert_eq!((stretches.starved, stretches.starved_ns), (80, Some(SECOND)));
    }
}
