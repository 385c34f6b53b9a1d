//! How many goroutines were in each state, at regular moments: few of them, however long the capture.

use super::State;

/// Moments that are kept at most; then every other one goes, and the step doubles.
const MOST: usize = 48;
/// The first step.
const STEP_NS: u64 = 1_000_000;

/// Living goroutines by state, once in every step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Nanoseconds from a moment to the next.
    pub step_ns: u64,
    /// When it began, CLOCK_MONOTONIC; the first moment is one step later.
    pub begin_ns: u64,
    /// The counts at each moment, by the number of the state.
    pub moments: Vec<[u64; State::COUNT]>,
    /// The next moment; never before it has begun.
    next_ns: u64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            step_ns: STEP_NS,
            begin_ns: 0,
            moments: Vec::new(),
            next_ns: u64::MAX,
        }
    }
}

impl History {
    /// Begins the history, unless it has begun: states are known from now on.
    pub fn begin(&mut self, at_ns: u64) {
        if self.next_ns == u64::MAX {
            self.begin_ns = at_ns;
            self.next_ns = at_ns.saturating_add(self.step_ns);
        }
    }

    /// Advances to `now_ns`: until then this many goroutines were in each state.
    #[inline]
    pub fn advance(&mut self, now_ns: u64, living: &[u64; State::COUNT]) {
        if now_ns >= self.next_ns {
            self.keep(now_ns, living);
        }
    }

    #[cold]
    fn keep(&mut self, now_ns: u64, living: &[u64; State::COUNT]) {
        while self.next_ns <= now_ns && self.next_ns < u64::MAX {
            if self.moments.len() >= MOST {
                // Those at the ends of the double steps stay.
                let mut number = 0;
                self.moments.retain(|_| {
                    number += 1;
                    number % 2 == 0
                });
                self.step_ns = self.step_ns.saturating_mul(2);
                let taken = self.moments.len() as u64 + 1;
                self.next_ns = self.begin_ns.saturating_add(self.step_ns.saturating_mul(taken));
                continue;
            }
            self.moments.push(*living);
            self.next_ns = self.next_ns.saturating_add(self.step_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state in which as many goroutines run as steps of the first length have passed.
    fn at(steps: u64) -> [u64; State::COUNT] {
        let mut living = [0; State::COUNT];
        living[State::Running as usize] = steps;
        living
    }

    #[test]
    fn moments_are_regular_and_few_however_long_the_capture() {
        let mut history = History::default();
        history.advance(5, &at(0));
        assert!(history.moments.is_empty(), "no state is known yet");
        let begin = 7;
        history.begin(begin);
        history.begin(99);
        for step in 1..=1000 {
            // Just before the moment, at it, and once too often.
            history.advance(begin + step * STEP_NS - 1, &at(u64::MAX));
            history.advance(begin + step * STEP_NS, &at(step));
            history.advance(begin + step * STEP_NS, &at(u64::MAX));
        }
        assert_eq!((history.begin_ns, history.step_ns), (begin, 32 * STEP_NS));
        let seen: Vec<u64> = history
            .moments
            .iter()
            .map(|m| m[State::Running as usize])
            .collect();
        let expected: Vec<u64> = (1..=1000 / 32).map(|n| 32 * n).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_long_silence_and_the_end_of_time_cost_nothing() {
        let mut history = History::default();
        history.begin(0);
        history.advance(u64::MAX, &at(3));
        assert!(history.moments.len() <= MOST);
        assert!(history.moments.iter().all(|moment| *moment == at(3)));
        history.advance(u64::MAX, &at(4));
    }
}
