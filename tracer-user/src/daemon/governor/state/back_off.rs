//! When a mode is tried again that was too expensive, or could not be attached.

use crate::daemon::governor::{Reason, budget::SECOND};

/// How long a mode is not tried again after the first time.
const FIRST_NS: u64 = 30 * SECOND;
/// The longest such time; it doubles up to here.
const LONGEST_NS: u64 = 3_600 * SECOND;

/// A time in which a mode is not tried again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BackOff {
    pub(super) until_ns: u64,
    pub(super) length_ns: u64,
    pub(super) after: Reason,
}

impl BackOff {
    /// Begins at `now_ns`, and is twice as long as the one `before` it.
    pub(super) fn new(now_ns: u64, before: Option<&Self>, after: Reason) -> Self {
        let length_ns = before.map_or(FIRST_NS, |before| {
            before.length_ns.saturating_mul(2).min(LONGEST_NS)
        });
        Self {
            until_ns: now_ns.saturating_add(length_ns),
            length_ns,
            after,
        }
    }
}
