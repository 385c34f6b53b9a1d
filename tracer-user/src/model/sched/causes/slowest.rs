//! The longest waits Runnable→Running, with what is known of each: its causes, who woke the goroutine, behind whom it waited.

use super::ledger::ByCause;
use crate::model::sched::explained::{Picture, Waker, Who};

/// One wait, while it is among the longest.
#[derive(Clone, Debug)]
pub struct LongWait {
    /// When it began, CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// The goroutine's g.
    pub g: u64,
    /// Which life of it.
    pub life: u32,
    /// Who waited.
    pub who: Who,
    /// How it became runnable, an `Origin`.
    pub origin: u8,
    /// What it had waited for before: the number of the reason. `None` where it had not.
    pub after: Option<u8>,
    /// Who woke it, who had woken that one, and so on.
    pub wakers: Vec<Waker>,
    /// Its causes.
    pub causes: ByCause,
    /// Who ran just before it.
    pub behind: Option<Who>,
    /// What the Ps did just before it began to run.
    pub picture: Picture,
}

/// The longest waits that have ended, the longest first.
#[derive(Clone, Debug, Default)]
pub struct LongWaits(Vec<LongWait>);

impl LongWaits {
    /// Steps of a chain of wakers that are followed.
    pub const STEPS: usize = 3;
    /// Waits that are kept.
    pub const MOST: usize = 20;

    /// Whether a wait of this length is among the longest so far.
    #[inline]
    pub fn has_room_for(&self, duration_ns: u64) -> bool {
        match self.0.get(Self::MOST - 1) {
            Some(shortest) => duration_ns > shortest.duration_ns,
            None => duration_ns > 0,
        }
    }

    /// Adds a wait.
    pub fn add(&mut self, wait: LongWait) {
        let at = self
            .0
            .partition_point(|longer| longer.duration_ns >= wait.duration_ns);
        self.0.insert(at, wait);
        self.0.truncate(Self::MOST);
    }

    /// The waits, the longest first.
    pub fn waits(&self) -> &[LongWait] {
        &self.0
    }
}
