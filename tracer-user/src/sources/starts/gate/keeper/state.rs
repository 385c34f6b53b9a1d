//! Whether programs are held, and what holds them.

use std::time::Instant;

use crate::sources::starts::gate::{group::Group, watchdog::Watchdog};

/// Whether programs are held, and if not, until when.
pub(super) enum State {
    /// Programs are held.
    Closed(Closed),
    /// Not held while gmpscope is about to be stopped.
    Paused,
    /// Not held for a while: there is no room for another open file.
    Short { until: Instant },
    /// Not held any more.
    Open,
}

/// What holds programs. The watchdog is dropped first: it has the group open, too, and the kernel releases what waits
/// when the group is closed for the last time.
pub(super) struct Closed {
    pub(super) watchdog: Watchdog,
    pub(super) group: Group,
}
