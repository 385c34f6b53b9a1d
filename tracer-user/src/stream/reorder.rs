//! Puts the transitions of all ring buffers in the order of time. In each they are nearly in that order: a program
//! reserves its place in the ring before it reads the clock, so that some that are near in time may be swapped. Several
//! rings are read one after the other, each as far as it goes, and a transition may be released once every ring was
//! either seen empty after that moment, or read beyond it.
//!
//! A program that loses its CPU between reserving its place and sending its record stops its ring: what others have sent
//! after it can only be read when it continues. Until then nothing later is released from other rings, or it would come
//! before what is behind that record; unless it takes so long that memory would fill up.
//!
//! The order of one goroutine's transitions is that of their times: each is sent before the next one can happen, on
//! whichever CPU. In one ring equal times keep their places; on two CPUs those of one goroutine are not equal, since a
//! hit takes longer than a step of the clock.

use super::transition::{Transition, flag};

/// Longest time for which a record that is not sent holds back what other rings have.
const PATIENCE_NS: u64 = 1_000_000_000;

/// A ring buffer: transitions in nearly the order of their times.
pub trait Ring {
    /// Takes the next transition; `None` where there is none that was sent.
    fn take(&mut self) -> Option<Transition>;

    /// Whether there is no place for one that was not taken, be it sent or not.
    fn is_empty(&self) -> bool;
}

/// How far rings were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many transitions were read.
    pub count: u64,
    /// What is still to come is later than this, but for transitions whose program was interrupted.
    pub settled_ns: u64,
    /// Whether a ring may have more that was sent before the reading began.
    pub may_be_more: bool,
    /// Time of the latest transition that says that something was lost before it; 0 if none does.
    pub lost_ns: u64,
}

/// Holds transitions back until nothing earlier can come.
#[derive(Debug, Default)]
pub struct Reorder {
    held: Vec<Transition>,
    /// For each ring, the time of the latest transition that was read from it, or when it was last seen empty.
    settled_ns: Vec<u64>,
    /// Time of the latest transition that was released.
    released_ns: u64,
    late: u64,
}

impl Reorder {
    /// Returns an empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads at most `each` transitions from each ring. `now_ns` is the clock just before.
    pub fn read(&mut self, rings: &mut [impl Ring], each: usize, now_ns: u64) -> Progress {
        let mut progress = Progress {
            count: 0,
            settled_ns: now_ns,
            may_be_more: false,
            lost_ns: 0,
        };
        self.settled_ns.resize(rings.len(), 0);
        for (number, ring) in rings.iter_mut().enumerate() {
            let (mut taken, mut newest_ns) = (0, 0);
            while taken < each
                && let Some(transition) = ring.take()
            {
                taken += 1;
                newest_ns = transition.at_ns.max(newest_ns);
                if transition.flags & flag::AFTER_LOSS != 0 {
                    progress.lost_ns = progress.lost_ns.max(transition.at_ns);
                }
                self.push(transition);
            }
            progress.count += taken as u64;
            progress.may_be_more |= taken == each && newest_ns < now_ns;
            // What is still in the ring is hardly older than what was just read.
            let settled_ns = match (ring.is_empty(), taken == each) {
                (true, _) => now_ns,
                (false, true) => newest_ns,
                (false, false) => newest_ns.max(now_ns.saturating_sub(PATIENCE_NS)),
            };
            if let Some(own_ns) = self.settled_ns.get_mut(number) {
                *own_ns = settled_ns.max(*own_ns);
                progress.settled_ns = progress.settled_ns.min(*own_ns);
            }
        }
        progress
    }

    /// Adds a transition, in the order of its ring.
    pub fn push(&mut self, transition: Transition) {
        self.late += u64::from(transition.at_ns < self.released_ns);
        self.held.push(transition);
    }

    /// Releases all transitions that are earlier than `until_ns`, in the order of time. One that comes after a later
    /// one was released is released all the same, and counted as late.
    pub fn until(&mut self, until_ns: u64) -> Vec<Transition> {
        // A stable sort, which is cheap on what is nearly in order.
        self.held.sort_by_key(|transition| transition.at_ns);
        let count = self
            .held
            .partition_point(|transition| transition.at_ns < until_ns);
        if let Some(latest) = count.checked_sub(1).and_then(|last| self.held.get(last)) {
            self.released_ns = self.released_ns.max(latest.at_ns);
        }
        if count == self.held.len() {
            let room = Vec::with_capacity(self.held.len());
            return std::mem::replace(&mut self.held, room);
        }
        self.held.drain(..count).collect()
    }

    /// Returns how many came too late since the last call.
    pub fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }

    /// Returns how many are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring in which each transition can be read from some moment on; its place is there from its time on.
    struct Fake {
        now_ns: std::rc::Rc<std::cell::Cell<u64>>,
        left: std::collections::VecDeque<(u64, Transition)>,
    }

    impl Ring for Fake {
        fn take(&mut self) -> Option<Transition> {
            // Time passes while rings are read.
            self.now_ns.set(self.now_ns.get() + 1);
            let now_ns = self.now_ns.get();
            self.left
                .pop_front_if(|(visible_ns, _)| *visible_ns <= now_ns)
                .map(|(_, transition)| transition)
        }

        fn is_empty(&self) -> bool {
            let now_ns = self.now_ns.get();
            self.left.iter().all(|(_, transition)| transition.at_ns > now_ns)
        }
    }

    /// xorshift64*, so that a failure can be reproduced by its seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
        }
    }

    #[test]
    fn what_several_rings_have_comes_in_the_order_of_time_whatever_is_read_when() {
        /// Between reserving a place and its transition being there.
        const INTERRUPTED_NS: u64 = 40;
        for seed in 1..=500 {
            let mut random = Random(seed);
            let now_ns = std::rc::Rc::new(std::cell::Cell::new(0));
            let count = 1 + random.below(5);
            let mut rings: Vec<Fake> = (0..count)
                .map(|_| Fake {
                    now_ns: now_ns.clone(),
                    left: std::collections::VecDeque::new(),
                })
                .collect();
            // A goroutine at a time, on any CPU: its number counts up.
            let (mut clock, mut sent) = (0, Vec::new());
            for n in 0..400 {
                let pause = if random.below(40) == 0 { 3_000 } else { 20 };
                clock += 1 + random.below(pause);
                let transition = at(clock, n);
                sent.push(transition);
                let ring = &mut rings[random.below(count) as usize];
                // Now and then a program loses its CPU, and all after it in its ring have to wait.
                let stopped = if random.below(50) == 0 { 20_000 } else { 0 };
                let visible_ns = clock + random.below(INTERRUPTED_NS) + stopped;
                let before = ring.left.back().map_or(0, |(visible_ns, _)| *visible_ns);
                ring.left.push_back((visible_ns.max(before), transition));
                // One that interrupts another has its place after it, and reads the clock before it.
                if let [.., (_, one), (_, other)] = ring.left.make_contiguous()
                    && random.below(8) == 0
                    && other.at_ns - one.at_ns < INTERRUPTED_NS
                {
                    std::mem::swap(one, other);
                }
            }
            let (mut reorder, mut seen, mut received) = (Reorder::new(), Vec::new(), 0);
            while received < 400 {
                now_ns.set(now_ns.get() + random.below(500));
                let each = 1 + random.below(60) as usize;
                let progress = reorder.read(&mut rings, each, now_ns.get());
                received += progress.count;
                let window_ns = 3 * INTERRUPTED_NS;
                seen.extend(reorder.until(progress.settled_ns.saturating_sub(window_ns)));
            }
            seen.extend(reorder.until(u64::MAX));
            assert_eq!(reorder.take_late(), 0, "seed {seed}");
            assert_eq!(seen, sent, "seed {seed}");
        }
    }

    #[test]
    fn a_record_that_is_not_sent_holds_back_what_others_have_for_a_while() {
        let now_ns = std::rc::Rc::new(std::cell::Cell::new(0));
        let ring = |transitions: &[(u64, Transition)]| Fake {
            now_ns: now_ns.clone(),
            left: transitions.iter().copied().collect(),
        };
        let second = PATIENCE_NS;
        let mut rings = [
            ring(&[(10, at(10, 1)), (9 * second, at(20, 2)), (9 * second, at(30, 3))]),
            ring(&[(25, at(25, 4)), (40, at(40, 5))]),
        ];
        let mut reorder = Reorder::new();
        let mut read = |now: u64| {
            now_ns.set(now);
            let progress = reorder.read(&mut rings, 100, now);
            reorder.until(progress.settled_ns)
        };
        assert_eq!(read(100), []);
        assert_eq!(read(second), []);
        assert_eq!(read(second + 11), [at(10, 1)]);
        assert_eq!(read(second + 30), [at(25, 4)]);
        assert_eq!(read(2 * second), [at(40, 5)]);
        // At last it is there, and those after it.
        assert_eq!(read(9 * second), [at(20, 2), at(30, 3)]);
        assert_eq!(reorder.take_late(), 2);
    }

    #[test]
    fn a_ring_that_was_not_emptied_holds_back_what_others_have() {
        let now_ns = std::rc::Rc::new(std::cell::Cell::new(1_000));
        let ring = |transitions: &[Transition]| Fake {
            now_ns: now_ns.clone(),
            left: transitions.iter().map(|transition| (0, *transition)).collect(),
        };
        let after_loss = Transition {
            flags: flag::AFTER_LOSS,
            ..at(30, 3)
        };
        let mut rings = [ring(&[at(10, 1), at(20, 2), after_loss]), ring(&[at(25, 9)])];
        let mut reorder = Reorder::new();
        let progress = reorder.read(&mut rings, 2, 1_000);
        let expected = Progress {
            count: 3,
            settled_ns: 20,
            may_be_more: true,
            lost_ns: 0,
        };
        assert_eq!(progress, expected);
        assert_eq!(reorder.until(progress.settled_ns), [at(10, 1)]);
        let progress = reorder.read(&mut rings, 2, 1_000);
        assert_eq!((progress.settled_ns, progress.may_be_more), (1_000, false));
        assert_eq!(progress.lost_ns, 30);
        assert_eq!(
            reorder.until(progress.settled_ns),
            [at(20, 2), at(25, 9), after_loss]
        );
        // What comes while it is read is for the next time.
        let mut rings = [ring(&[at(1_001, 1), at(1_002, 2)])];
        assert!(!reorder.read(&mut rings, 1, 1_000).may_be_more);
    }

    fn at(at_ns: u64, subject: u64) -> Transition {
        Transition {
            at_ns,
            subject,
            ..Transition::default()
        }
    }

    #[test]
    fn swapped_transitions_are_put_in_order_and_equal_times_keep_their_places() {
        let mut reorder = Reorder::new();
        for t in [at(5, 1), at(3, 2), at(3, 3), at(9, 4), at(7, 5)] {
            reorder.push(t);
        }
        assert_eq!(reorder.until(7), [at(3, 2), at(3, 3), at(5, 1)]);
        reorder.push(at(8, 6));
        assert_eq!(reorder.held(), 3);
        assert_eq!(reorder.until(u64::MAX), [at(7, 5), at(8, 6), at(9, 4)]);
        assert_eq!(reorder.take_late(), 0);
    }

    #[test]
    fn what_comes_too_late_is_released_and_counted() {
        let mut reorder = Reorder::new();
        reorder.push(at(5, 1));
        assert_eq!(reorder.until(10).len(), 1);
        reorder.push(at(4, 2));
        // Not late: nothing later was released before it.
        reorder.push(at(9, 3));
        assert_eq!(reorder.until(11), [at(4, 2), at(9, 3)]);
        assert_eq!((reorder.take_late(), reorder.take_late()), (1, 0));
    }
}
