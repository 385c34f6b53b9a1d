//! A change of a goroutine's state. It holds everything that is needed by what follows changes, since the goroutine
//! itself is in its new state already.

use super::{
    explained::Who,
    goroutine::{Goroutine, mark},
    state::State,
};

/// One change of a goroutine's state, with what was known of the goroutine before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The goroutine's slot in the table.
    pub(super) slot: u32,
    /// Its g.
    pub g: u64,
    /// Which life of the g it is.
    pub life: u32,
    /// Its id; 0 while it is not known.
    pub goid: u64,
    /// `g.gopc`; 0 while it is not known.
    pub gopc: u64,
    /// The thread that changed it.
    pub tid: u32,
    /// The thread that it ran on, or had last run on; 0: none is known.
    pub from_tid: u32,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why it waits (into Waiting), how it became runnable (into Runnable).
    pub reason: u8,
    /// Why it had waited last.
    pub from_reason: u8,
    /// How it had become runnable last, an `Origin`.
    pub from_origin: u8,
    /// Where it waited, as [`StackSeen::id`]; 0: not known.
    ///
    /// [`StackSeen::id`]: crate::stream::transition::StackSeen::id
    pub from_stack: u32,
    /// The reading of the causes that it held, where it was Runnable; 0: none.
    pub(super) from_reading: u32,
    /// Since when it was in the state before.
    pub since_ns: u64,
    /// Nanoseconds since then.
    pub spent_ns: u64,
    /// The state that these count for: Unknown, where a loss explains that `from` was wrong.
    pub spent_in: State,
    /// Whether it was inferred: no event reported it.
    pub inferred: bool,
    /// Whether events reported both this change and the one before it, and nothing was lost between them: `spent_ns`
    /// is then the length of a wait.
    pub exact: bool,
}

impl Change {
    /// Nanoseconds from Runnable to Running, if it ends such a wait and its length is known.
    #[inline(always)]
    pub fn runnable_ns(&self) -> Option<u64> {
        (self.exact && self.from == State::Runnable && self.to == State::Running).then_some(self.spent_ns)
    }

    /// The goroutine.
    #[inline]
    pub fn who(&self) -> Who {
        Who {
            goid: self.goid,
            gopc: self.gopc,
        }
    }

    /// Sets the goroutine to its new state.
    #[inline(always)]
    pub(super) fn apply_to(&self, goroutine: &mut Goroutine) {
        if let Some(sum) = goroutine.spent_ns.get_mut(self.spent_in as usize) {
            *sum += self.spent_ns;
        }
        goroutine.state = self.to;
        goroutine.since_ns = self.since_ns.max(self.at_ns);
        goroutine.stack = 0;
        let source = if self.inferred { mark::INFERRED } else { mark::SEEN };
        goroutine.marks = goroutine.marks & mark::KEPT | source;
        match self.to {
            State::Waiting => goroutine.reason = self.reason,
            State::Runnable => goroutine.origin = self.reason,
            State::Running | State::Syscall => goroutine.tid = self.tid,
            State::Unknown | State::Dead => {}
        }
    }
}
