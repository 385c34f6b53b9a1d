//! The ABI between the kernel side and the user side, one file for each record. The only code is what both sides must
//! compute alike.
//!
//! What differs between traced processes (struct offsets, thresholds) is in a [`TargetConfig`], and what differs
//! between probed instructions is in a [`Site`]; both are map values, so one loaded object serves many targets.

mod counters;
pub mod full;
pub mod histogram;
pub mod host;
mod origin;
mod site;
mod slow;
pub mod stacks;
mod stamp;
pub mod start;
mod target;

pub use counters::Counters;
pub use histogram::Histogram;
pub use origin::Origin;
pub use site::{Meaning, Site, SiteKey, SiteKind, gp_in};
pub use slow::SlowWait;
pub use stamp::{Stamp, creation_site_key, creation_site_of, stamp_key};
pub use target::{G_BLOCK, TargetConfig, TargetState};

/// How many processes one loaded object can serve.
pub const MAX_TARGETS: u32 = 256;
/// How many probe sites a target may have; the cookies of target n begin at n times this number.
pub const SITES_PER_TARGET: u32 = 64;
/// How many probe sites all targets of one loaded object may have together.
pub const MAX_SITES: u32 = MAX_TARGETS * SITES_PER_TARGET;
/// How many creation sites (functions with a `go` statement) are distinguished, over all targets; the user side sizes
/// the map. Those that do not fit, or exceed [`TargetConfig::creation_sites`], are added to [`OTHER_CREATION_SITES`]
/// and counted in [`Counters::creation_sites_full`].
pub const MAX_CREATION_SITES: u32 = 1_024;
/// `gopc` under which waits are aggregated when the table of creation sites is full.
pub const OTHER_CREATION_SITES: u64 = 0;
/// Default number of →Runnable stamps that the kernel can hold; the user side sizes the map for its target, and lets
/// goroutines keep half of them between their waits ([`TargetState::stamps_left`]). Waits that do not fit are counted in
/// [`Counters::stamps_full`].
pub const DEFAULT_STAMPS: u32 = 65_536;
/// Bytes of the ring buffer for slow waits.
pub const RING_BYTES: u32 = 1 << 20;
