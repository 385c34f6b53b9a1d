//! What has begun and is not over when a window closes, from the runtime's memory and the kernel's stamps.
//!
//! Memory is read while the probes are still live, and the stamps once they are off. So each goroutine that memory
//! shows as runnable is in one of three states: it has a stamp, and has waited since then; its stamp was cleared, and
//! it has begun to run since it was read; or it has none, and no probe has seen it become runnable, so that it has
//! waited for all of the window. The last holds only while there is room for a stamp of every goroutine: where there is
//! not, a stamp may be missing, or gone with the wait that it was made for. Stamps of goroutines that memory does not
//! show as runnable are not looked at: a stamp that is left over, of a goroutine that has ended for instance, is never
//! reported as a wait. A g that is used again is stamped anew when its new goroutine becomes runnable.

use std::collections::BTreeSet;

use super::{
    passive::{Runnable, RunnableReading, WorldReading},
    probes::Stamps,
};
use crate::stream::ongoing::{RunnableGoroutine, StillRunnable, StillStopped};

/// Puts together what memory and stamps say of the goroutines that can run and do not. Without stamps, the runtime's own
/// and what is remembered of earlier readings are all that is known.
pub fn still_runnable(
    reading: &RunnableReading,
    stamps: Option<&Stamps>,
    seen_before: &QueueWatch,
) -> StillRunnable {
    let mut goroutines: Vec<RunnableGoroutine> = Vec::with_capacity(reading.goroutines.len());
    for (index, seen) in reading.goroutines.iter().enumerate() {
        let mut goroutine = RunnableGoroutine {
            goid: seen.goid,
            gopc: seen.gopc,
            // Never later than the reading, whatever lies there.
            since_ns: seen.since_ns.filter(|since_ns| *since_ns <= reading.at_ns),
            seen_ns: seen_before.since(seen),
            ..RunnableGoroutine::default()
        };
        if let Some(stamps) = stamps {
            match stamps.stamps.get(index).copied().flatten() {
                Some(stamp) if stamp.at_ns == 0 => continue,
                Some(stamp) => {
                    goroutine.since_ns = Some(stamp.at_ns);
                    goroutine.origin = u8::try_from(stamp.origin).ok();
                }
                None => goroutine.throughout = stamps.is_complete,
            }
        }
        goroutines.push(goroutine);
    }
    let count = goroutines.len() as u64;
    goroutines.sort_by_key(|goroutine| {
        let unknown_ns = match goroutine.throughout {
            true => 0,
            false => goroutine.seen_ns.unwrap_or(u64::MAX),
        };
        (goroutine.since_ns.unwrap_or(unknown_ns), goroutine.goid)
    });
    goroutines.truncate(StillRunnable::LISTED);
    StillRunnable {
        read: reading.read,
        all: reading.all,
        count,
        goroutines,
    }
}

/// Remembers which goroutines could run when the Ps were first seen to take no other goroutine any more: until one does,
/// these have not run. Healthy programs switch all the time, so that there is nothing to be remembered.
#[derive(Clone, Debug, Default)]
pub struct QueueWatch {
    switches: Option<Vec<u32>>,
    /// The time of the reading, and the (g, goid) of each.
    seen: Option<(u64, BTreeSet<(u64, u64)>)>,
}

impl QueueWatch {
    /// Takes how often each P has taken another goroutine, `None` where that could not be read. Returns whether the
    /// goroutines that can run are to be read now, for [`Self::remember`].
    pub fn take(&mut self, switches: Option<Vec<u32>>) -> bool {
        let stands_still = switches.is_some() && self.switches == switches;
        if !stands_still {
            self.seen = None;
        }
        self.switches = switches;
        stands_still && self.seen.is_none()
    }

    /// Remembers the goroutines of a reading.
    pub fn remember(&mut self, reading: &RunnableReading) {
        let seen = reading.goroutines.iter().map(|seen| (seen.g, seen.goid));
        self.seen = Some((reading.end_ns, seen.collect()));
    }

    /// When the goroutine was seen, if it has not run since.
    fn since(&self, goroutine: &Runnable) -> Option<u64> {
        let (at_ns, seen) = self.seen.as_ref()?;
        seen.contains(&(goroutine.g, goroutine.goid)).then_some(*at_ns)
    }
}

/// Follows a stop of the world from reading to reading.
#[derive(Clone, Copy, Debug, Default)]
pub struct StopWatch {
    stop: Option<Stop>,
}

/// A stop of the world that was seen.
#[derive(Clone, Copy, Debug)]
struct Stop {
    /// The earliest reading in which it was this one.
    since_ns: u64,
    not_stopped: u32,
    ended: Option<u64>,
}

impl StopWatch {
    /// Takes a reading; `None` where it could not be read.
    pub fn take(&mut self, at_ns: u64, reading: Option<WorldReading>) {
        let stopping = reading.filter(|reading| reading.is_stopping);
        self.stop = stopping.map(|reading| {
            let same = self
                .stop
                .filter(|before| reading.ended.is_some() && before.ended == reading.ended);
            Stop {
                since_ns: same.map_or(at_ns, |before| before.since_ns),
                not_stopped: reading.not_stopped,
                ended: reading.ended,
            }
        });
    }

    /// The stop of the world that the last reading showed.
    pub fn stop(&self) -> Option<StillStopped> {
        self.stop.map(|stop| StillStopped {
            since_ns: stop.since_ns,
            not_stopped: stop.not_stopped,
        })
    }
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::{Origin, Stamp};

    use super::*;

    fn reading(goroutines: &[(u64, Option<u64>)]) -> RunnableReading {
        let goroutines = goroutines.iter().map(|(goid, since_ns)| Runnable {
            g: 0xc000 + goid * 512,
            goid: *goid,
            gopc: 0x401_000,
            since_ns: *since_ns,
        });
        RunnableReading {
            at_ns: 5_000,
            end_ns: 5_100,
            read: 10,
            all: 10,
            goroutines: goroutines.collect(),
        }
    }

    fn stamp(at_ns: u64) -> Option<Stamp> {
        Some(Stamp {
            at_ns,
            origin: Origin::Created as u32,
            once: 0,
        })
    }

    /// (goid, since, throughout) of each.
    fn of(seen: &StillRunnable) -> Vec<(u64, Option<u64>, bool)> {
        let goroutines = seen.goroutines.iter();
        goroutines
            .map(|goroutine| (goroutine.goid, goroutine.since_ns, goroutine.throughout))
            .collect()
    }

    #[test]
    fn a_goroutine_without_a_stamp_has_waited_throughout_and_one_whose_stamp_was_cleared_runs() {
        let reading = reading(&[(1, None), (2, None), (3, None), (4, Some(70)), (5, Some(9_000))]);
        let nothing = QueueWatch::default();
        let mut stamps = Stamps {
            stamps: vec![stamp(2_000), stamp(0), None, None, stamp(3_000)],
            is_complete: true,
        };
        let seen = still_runnable(&reading, Some(&stamps), &nothing);
        assert_eq!(
            of(&seen),
            [
                (3, None, true),
                (4, Some(70), true),
                (1, Some(2_000), false),
                (5, Some(3_000), false),
            ]
        );
        assert_eq!(seen.count, 4);
        assert_eq!(seen.goroutines[2].origin, Some(Origin::Created as u8));
        // Where there was no room for a stamp, its absence proves nothing.
        stamps.is_complete = false;
        let seen = still_runnable(&reading, Some(&stamps), &nothing);
        assert!(seen.goroutines.iter().all(|goroutine| !goroutine.throughout));
        assert_eq!(of(&seen).last(), Some(&(3, None, false)));
        // Without stamps, a begin that is later than the reading is not one.
        let seen = still_runnable(&reading, None, &nothing);
        assert_eq!(of(&seen)[0], (4, Some(70), false));
        assert_eq!(seen.count, 5);
        assert!(of(&seen).contains(&(5, None, false)));
    }

    #[test]
    fn the_list_is_bounded_and_the_count_is_not() {
        let many: Vec<(u64, Option<u64>)> = (0..3_000).map(|n| (n, Some(3_000 - n))).collect();
        let seen = still_runnable(&reading(&many), None, &QueueWatch::default());
        assert_eq!(seen.count, 3_000);
        assert_eq!(seen.goroutines.len(), StillRunnable::LISTED);
        assert_eq!(seen.goroutines[0].goid, 2_999);
    }

    #[test]
    fn goroutines_have_not_run_while_no_p_has_taken_another() {
        let before = RunnableReading {
            at_ns: 1_000,
            end_ns: 1_010,
            ..reading(&[(1, None), (2, None)])
        };
        let mut watch = QueueWatch::default();
        assert!(!watch.take(Some(vec![7, 9])), "the first reading shows nothing");
        assert!(watch.take(Some(vec![7, 9])));
        watch.remember(&before);
        assert!(!watch.take(Some(vec![7, 9])), "they are known");
        // The g of one is another goroutine by now.
        let mut now = reading(&[(1, None), (2, None), (3, Some(4_000))]);
        now.goroutines[1].goid = 20;
        let seen_ns = |watch: &QueueWatch| -> Vec<(u64, Option<u64>)> {
            let seen = still_runnable(&now, None, watch).goroutines;
            seen.iter().map(|seen| (seen.goid, seen.seen_ns)).collect()
        };
        assert_eq!(seen_ns(&watch), [(1, Some(1_010)), (3, None), (20, None)]);
        // A P has taken another goroutine, or it is not known.
        for switches in [Some(vec![7, 10]), None] {
            let mut moved = watch.clone();
            assert!(!moved.take(switches));
            assert!(seen_ns(&moved).iter().all(|(_, seen_ns)| seen_ns.is_none()));
        }
    }

    #[test]
    fn a_stop_is_the_same_as_long_as_none_has_ended() {
        let world = |is_stopping, ended| {
            Some(WorldReading {
                is_stopping,
                not_stopped: 1,
                ended,
            })
        };
        let since = |watch: &StopWatch| watch.stop().map(|stop| stop.since_ns);
        let mut watch = StopWatch::default();
        watch.take(10, world(false, Some(3)));
        assert_eq!(since(&watch), None);
        watch.take(20, world(true, Some(3)));
        watch.take(30, world(true, Some(3)));
        assert_eq!(since(&watch), Some(20));
        // It has ended, and another one has begun.
        watch.take(40, world(true, Some(4)));
        assert_eq!(since(&watch), Some(40));
        // What was not read in between may have ended.
        watch.take(50, None);
        assert_eq!(since(&watch), None);
        watch.take(60, world(true, Some(4)));
        assert_eq!(since(&watch), Some(60));
        // Without counts, as before Go 1.22, two readings may be of two stops.
        watch.take(70, world(true, None));
        watch.take(80, world(true, None));
        assert_eq!(since(&watch), Some(80));
    }
}
