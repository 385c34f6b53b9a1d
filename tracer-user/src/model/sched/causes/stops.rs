//! Stops of the world: how long each took, and which goroutine was the last to stop.

use crate::model::sched::explained::{LONG_STOP_NS, StopCounts, StopReport, Who};

/// Stops that are kept: the longest. All are counted.
const MOST: usize = 20;

/// The stop that is under way, and the longest of those that have ended.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    current: Option<StopReport>,
    ended: Vec<StopReport>,
    counts: StopCounts,
}

impl Stops {
    /// Begins a stop.
    pub fn begin(&mut self, at_ns: u64, reason: u8) {
        self.current = Some(StopReport {
            begin_ns: at_ns,
            total_ns: 0,
            stopping_ns: 0,
            last: None,
            reason,
            ongoing: true,
        });
    }

    /// Whether one is under way.
    #[inline]
    pub fn is_under_way(&self) -> bool {
        self.current.is_some()
    }

    /// Records that a goroutine ceased to run while the world was being stopped.
    #[cold]
    pub fn record_stopped(&mut self, at_ns: u64, who: Who) {
        if let Some(stop) = &mut self.current {
            stop.stopping_ns = at_ns.saturating_sub(stop.begin_ns);
            stop.last = Some(who);
        }
    }

    /// Ends the stop: the world starts again.
    pub fn end(&mut self, at_ns: u64) {
        let Some(mut stop) = self.current.take() else {
            return;
        };
        stop.total_ns = at_ns.saturating_sub(stop.begin_ns);
        stop.ongoing = false;
        self.counts.ended += 1;
        self.counts.long += u64::from(stop.total_ns > LONG_STOP_NS);
        let at = self
            .ended
            .partition_point(|longer| longer.total_ns >= stop.total_ns);
        if at < MOST {
            self.ended.insert(at, stop);
            self.ended.truncate(MOST);
        }
    }

    /// Forgets the stops that have ended.
    pub fn forget_ended(&mut self) {
        self.ended.clear();
        self.counts = StopCounts::default();
    }

    /// How many stops have ended.
    pub fn counts(&self) -> StopCounts {
        self.counts
    }

    /// Forgets the stop that is under way: something was lost, and it may have ended.
    pub fn forget(&mut self) {
        self.current = None;
    }

    /// The longest stops as of `now_ns`, the longest first.
    pub fn report(&self, now_ns: u64) -> Vec<StopReport> {
        let ongoing = self.current.iter().map(|stop| StopReport {
            total_ns: now_ns.saturating_sub(stop.begin_ns),
            ..stop.clone()
        });
        let mut stops: Vec<StopReport> = self.ended.iter().cloned().chain(ongoing).collect();
        stops.sort_by_key(|stop| (std::cmp::Reverse(stop.total_ns), stop.begin_ns));
        stops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(goid: u64) -> Who {
        Who { goid, gopc: 0 }
    }

    #[test]
    fn the_last_goroutine_to_stop_is_the_one_that_delayed_it() {
        let mut stops = Stops::default();
        stops.record_stopped(50, who(1));
        stops.begin(100, 3);
        stops.record_stopped(110, who(2));
        stops.record_stopped(180, who(3));
        stops.end(200);
        let report = stops.report(300);
        assert_eq!(report.len(), 1);
        assert_eq!((report[0].stopping_ns, report[0].total_ns), (80, 100));
        assert_eq!((report[0].last, report[0].reason), (Some(who(3)), 3));
        assert!(!report[0].ongoing && !stops.is_under_way());
    }

    #[test]
    fn one_that_has_not_ended_is_reported_and_only_the_longest_are_kept() {
        let mut stops = Stops::default();
        for n in 1..=30 {
            stops.begin(n * 1_000, 0);
            stops.end(n * 1_000 + n);
        }
        stops.begin(50_000, 0);
        let report = stops.report(50_100);
        assert_eq!(report.len(), MOST + 1);
        assert!(report[0].ongoing && report[0].total_ns == 100);
        assert_eq!((report[1].total_ns, report[MOST].total_ns), (30, 11));
        stops.forget();
        assert_eq!(stops.report(60_000).len(), MOST);
        assert_eq!(stops.counts(), StopCounts { ended: 30, long: 0 });
    }

    #[test]
    fn long_stops_are_counted_beyond_those_that_are_kept() {
        let mut stops = Stops::default();
        for n in 0..50 {
            stops.begin(n * 10 * LONG_STOP_NS, 0);
            // Every other one takes just long enough.
            stops.end(n * 10 * LONG_STOP_NS + LONG_STOP_NS + n % 2);
        }
        stops.begin(600 * LONG_STOP_NS, 0);
        assert_eq!(stops.counts(), StopCounts { ended: 50, long: 25 });
        assert_eq!(stops.report(700 * LONG_STOP_NS).len(), MOST + 1);
        stops.forget_ended();
        assert_eq!(stops.counts(), StopCounts::default());
    }
}
