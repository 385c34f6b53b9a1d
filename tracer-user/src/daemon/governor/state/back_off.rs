//! When a mode is tried again that was too expensive, or could not be attached.

use super::{
    super::{Reason, budget::SECOND},
    Governor,
};
use crate::plan::Mode;

/// How long a mode is not tried again after the first time.
const FIRST_NS: u64 = 30 * SECOND;
/// The longest such time; it doubles up to here.
const LONGEST_NS: u64 = 3_600 * SECOND;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct BackOff {
    pub(super) until_ns: u64,
    pub(super) length_ns: u64,
    pub(super) after: Reason,
}

impl Governor {
    /// Does not try a mode again for a while, each time twice as long.
    pub(super) fn back_off(&mut self, now_ns: u64, mode: Mode, after: Reason) {
        let length_ns = self.back_off.get(&mode).map_or(FIRST_NS, |before| {
            before.length_ns.saturating_mul(2).min(LONGEST_NS)
        });
        self.back_off.insert(
            mode,
            BackOff {
                until_ns: now_ns.saturating_add(length_ns),
                length_ns,
                after,
            },
        );
    }
}
