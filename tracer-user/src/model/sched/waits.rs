//! How long goroutines waited, by origin, reason and creation site.

use tracer_ebpf::Origin;

use super::change::Change;
use super::counts::Counts;
use super::goroutine::ByAddress;
use super::state::State;
use crate::stream::{HistogramDelta, HistogramKey};

/// How many of the longest waits are kept.
const LONGEST: usize = 20;

/// Most `go` statements with a histogram of their own: no program has so many, but a made-up recording may.
const MOST_SITES: usize = 65_536;

/// Waits of the whole capture, and those since the last [`Waits::take`].
#[derive(Clone, Debug, Default)]
pub struct Waits {
    /// Runnable→Running since the last [`Self::take`], by origin.
    by_origin: [Counts; Origin::ALL.len()],
    /// Time in Waiting, by the number of the reason.
    by_reason: Vec<Option<Box<Counts>>>,
    /// Goroutines by the `go` statement that made them.
    sites: ByAddress<Site>,
    /// The longest times in Waiting that have ended, the longest first.
    longest: Vec<Wait>,
}

/// What is known of the goroutines that one `go` statement made.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Those made in the capture.
    pub created: u64,
    /// Those that ended in it.
    pub exited: u64,
    /// Their waits Runnable→Running; `None` before the first.
    pub runnable: Option<Counts>,
}

/// One time in Waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// When it began, CLOCK_MONOTONIC; 0 where that was not seen, and `duration_ns` is the least that it can be.
    pub begin_ns: u64,
    /// How long it was, or has been.
    pub duration_ns: u64,
    /// The goroutine's g.
    pub g: u64,
    /// Which life of it.
    pub life: u32,
    /// Its id; 0 while it is not known.
    pub goid: u64,
    /// Where it was made.
    pub gopc: u64,
    /// Why it waited.
    pub reason: u8,
    /// Where it waited, as [`StackSeen::id`]; 0: not known.
    ///
    /// [`StackSeen::id`]: crate::stream::transition::StackSeen::id
    pub stack: u32,
    /// Whether it had not ended.
    pub ongoing: bool,
}

impl Wait {
    /// The time in Waiting that a change ends, if it ends one and its length is known.
    #[inline(always)]
    pub fn ended_by(change: &Change) -> Option<Self> {
        (change.exact && change.from == State::Waiting && change.to != State::Dead).then_some(Self {
            begin_ns: change.since_ns,
            duration_ns: change.spent_ns,
            g: change.g,
            life: change.life,
            goid: change.goid,
            gopc: change.gopc,
            reason: change.from_reason,
            stack: change.from_stack,
            ongoing: false,
        })
    }
}

impl Waits {
    /// Adds the wait that a change ends.
    #[inline(always)]
    pub fn follow(&mut self, change: &Change) {
        if let Some(ns) = change.runnable_ns() {
            self.add_runnable(change.from_origin, change.gopc, ns);
        }
        if let Some(wait) = Wait::ended_by(change) {
            self.add_waiting(wait);
        }
    }

    fn add_runnable(&mut self, origin: u8, gopc: u64, ns: u64) {
        if let Some(counts) = self.by_origin.get_mut(usize::from(origin)) {
            counts.add(ns);
        }
        self.site(gopc).runnable.get_or_insert_default().add(ns);
    }

    fn add_waiting(&mut self, wait: Wait) {
        let index = usize::from(wait.reason);
        if self.by_reason.len() <= index {
            self.by_reason.resize(index + 1, None);
        }
        if let Some(counts) = self.by_reason.get_mut(index) {
            counts.get_or_insert_default().add(wait.duration_ns);
        }
        let shortest = self.longest.last().map_or(0, |wait| wait.duration_ns);
        if self.longest.len() < LONGEST || wait.duration_ns > shortest {
            let at = self
                .longest
                .partition_point(|longer| longer.duration_ns >= wait.duration_ns);
            self.longest.insert(at, wait);
            self.longest.truncate(LONGEST);
        }
    }

    /// The `go` statement with this address; past `MOST_SITES`, the one that stands for all others.
    pub fn site(&mut self, gopc: u64) -> &mut Site {
        let is_new = self.sites.len() >= MOST_SITES && !self.sites.contains_key(&gopc);
        self.sites.entry(if is_new { 0 } else { gopc }).or_default()
    }

    /// All `go` statements.
    pub fn sites(&self) -> impl Iterator<Item = (u64, &Site)> {
        self.sites.iter().map(|(gopc, site)| (*gopc, site))
    }

    /// Times in Waiting by the number of the reason.
    pub fn by_reason(&self) -> impl Iterator<Item = (u8, &Counts)> {
        (0u8..)
            .zip(&self.by_reason)
            .filter_map(|(reason, counts)| Some((reason, counts.as_deref()?)))
    }

    /// The longest times in Waiting that have ended, the longest first.
    pub fn longest(&self) -> &[Wait] {
        &self.longest
    }

    /// Returns the waits Runnable→Running since the last call.
    pub fn take(&mut self) -> impl Iterator<Item = HistogramDelta> {
        Origin::ALL
            .into_iter()
            .zip(&mut self.by_origin)
            .filter_map(|(origin, counts)| counts.take(HistogramKey::Origin(origin)))
    }
}
