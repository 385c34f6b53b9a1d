//! When all states may be read again.

/// Least time from the begin of one reading to the begin of the next that a loss asks for: while a ring overflows, a
/// reading is not worth much.
const AFTER_LOSS_NS: u64 = 1_000_000_000;
/// How often that time doubles at most, if each reading is spoiled by the next loss: reading costs time that emptying the
/// rings may need.
const MOST_DOUBLED: u32 = 5;
/// A reading that no loss asks for begins when the last one has been over for this many times as long as it took: a
/// tenth of the time at most.
const IDLE_PER_BUSY: u64 = 9;

/// The last reading, and how many before it were spoiled.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When it began and ended, CLOCK_MONOTONIC; 0 before the first.
    begin_ns: u64,
    end_ns: u64,
    /// Readings in a row during which something was lost.
    spoiled: u32,
}

impl Pace {
    /// Records that a reading begins.
    pub(super) fn begin(&mut self, now_ns: u64) {
        (self.begin_ns, self.end_ns) = (now_ns, 0);
    }

    /// Records that it has ended. `lost_ns` is when something was last lost.
    pub(super) fn end(&mut self, now_ns: u64, lost_ns: u64) {
        self.end_ns = now_ns.max(self.begin_ns);
        self.spoiled = if self.is_outdated(lost_ns) {
            self.spoiled.saturating_add(1)
        } else {
            0
        };
    }

    /// Whether something was lost since the last reading began.
    pub(super) fn is_outdated(&self, lost_ns: u64) -> bool {
        lost_ns > self.begin_ns
    }

    /// Whether a reading may begin now.
    pub(super) fn allows(&self, now_ns: u64, lost_ns: u64) -> bool {
        if self.begin_ns == 0 {
            return true;
        }
        let took_ns = self.end_ns.saturating_sub(self.begin_ns);
        let earliest_ns = if self.is_outdated(lost_ns) {
            let pause_ns = AFTER_LOSS_NS.max(took_ns.saturating_mul(2));
            let doubled = self.spoiled.min(MOST_DOUBLED);
            self.begin_ns
                .saturating_add(pause_ns.saturating_mul(1 << doubled))
        } else {
            self.end_ns.saturating_add(took_ns.saturating_mul(IDLE_PER_BUSY))
        };
        now_ns >= earliest_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_first_reading_may_begin_at_once_and_others_take_a_tenth_of_the_time() {
        let mut pace = Pace::default();
        assert!(pace.allows(5, 0));
        pace.begin(1_000 * MS);
        pace.end(1_002 * MS, 0);
        assert!(!pace.allows(1_019 * MS, 0));
        assert!(pace.allows(1_020 * MS, 0));
    }

    #[test]
    fn a_loss_asks_for_a_reading_and_each_that_is_spoiled_doubles_the_pause() {
        let mut pace = Pace::default();
        let mut begin = 1_000 * MS;
        for doubled in [0, 1, 2, 3, 4, 5, 5, 5] {
            pace.begin(begin);
            // Lost before it began: the reading makes that good.
            assert!(!pace.is_outdated(begin - 1));
            let lost = begin + MS;
            assert!(pace.is_outdated(lost));
            if doubled > 0 {
                pace.end(begin + 10 * MS, lost);
            } else {
                pace.end(begin + 10 * MS, begin);
            }
            let pause = AFTER_LOSS_NS << doubled;
            assert!(!pace.allows(begin + pause - 1, lost), "{doubled}");
            assert!(pace.allows(begin + pause, lost), "{doubled}");
            begin += pause;
        }
        // One that nothing spoils begins anew.
        pace.begin(begin);
        pace.end(begin + 10 * MS, begin - 1);
        assert!(pace.allows(begin + AFTER_LOSS_NS, begin + 20 * MS));
    }

    #[test]
    fn a_reading_that_takes_long_has_a_longer_pause_after_a_loss() {
        let mut pace = Pace::default();
        pace.begin(1_000 * MS);
        pace.end(3_000 * MS, 0);
        let lost = 3_500 * MS;
        assert!(!pace.allows(4_999 * MS, lost));
        assert!(pace.allows(5_000 * MS, lost));
    }
}
