//! What is observed beside the transitions, and has its place among them.

use std::collections::VecDeque;

use crate::stream::{Kind, Throttling, transition::SchedSnapshot};

/// Readings that wait until the transitions before them are emitted.
#[derive(Debug, Default)]
pub struct Beside {
    snapshots: VecDeque<SchedSnapshot>,
    /// With the time that all of it is later than.
    throttled: VecDeque<(u64, Throttling)>,
}

impl Beside {
    /// Adds a reading of all states, or a part of one, whose place is at its end.
    pub fn add_snapshot(&mut self, snapshot: SchedSnapshot) {
        self.snapshots.push_back(snapshot);
    }

    /// Adds what was counted of the throttling since `after_ns`. Everything later has to wait for it: what ends a stretch of
    /// throttling comes after the reading that counts it.
    pub fn add_throttling(&mut self, after_ns: u64, seen: Throttling) {
        self.throttled.push_back((after_ns, seen));
    }

    /// Takes the first whose place is before `until_ns`. It is behind the transitions up to the time that is returned with it,
    /// and before all later ones.
    pub fn next_before(&mut self, until_ns: u64) -> Option<(u64, Kind)> {
        let snapshot_ns = self.snapshots.front().map(|snapshot| snapshot.end_ns);
        let throttled = self.throttled.pop_front_if(|(after_ns, _)| {
            *after_ns < until_ns && snapshot_ns.is_none_or(|snapshot_ns| *after_ns <= snapshot_ns)
        });
        if let Some((after_ns, seen)) = throttled {
            return Some((after_ns, Kind::Throttling(seen)));
        }
        let snapshot = self.snapshots.pop_front_if(|read| read.end_ns < until_ns)?;
        Some((snapshot.end_ns, Kind::Scheduler(Box::new(snapshot))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_at_its_place_whatever_was_added_first() {
        let mut beside = Beside::default();
        let throttled = |periods| Throttling {
            throttled_ns: 1_000,
            periods,
        };
        // A reading of the states takes some time until it is here.
        beside.add_throttling(100, throttled(1));
        beside.add_throttling(200, throttled(2));
        for end_ns in [90, 150, 200] {
            beside.add_snapshot(SchedSnapshot {
                end_ns,
                ..SchedSnapshot::default()
            });
        }
        let mut take = |until_ns| {
            let mut taken = Vec::new();
            while let Some((after_ns, kind)) = beside.next_before(until_ns) {
                match kind {
                    Kind::Throttling(seen) => taken.push((after_ns, Some(seen.periods))),
                    Kind::Scheduler(snapshot) => taken.push((snapshot.end_ns, None)),
                    other => panic!("{other:?}"),
                }
            }
            taken
        };
        assert!(take(90).is_empty());
        assert_eq!(take(100), [(90, None)]);
        assert_eq!(take(200), [(100, Some(1)), (150, None)]);
        assert_eq!(take(u64::MAX), [(200, Some(2)), (200, None)]);
        assert!(take(u64::MAX).is_empty());
    }
}
