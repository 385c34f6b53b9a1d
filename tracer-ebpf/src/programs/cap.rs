//! The hit cap: a target that has more hits than its limit is switched off at once.

use tracer_ebpf::{
    TargetConfig,
    host::{HostEvent, host_event},
};

use super::{atomic, clock, maps};

/// Flag that wakes the reader: until it detaches, every further hit costs the target a trap.
const WAKEUP: u64 = 2;

/// Counts a hit of a target with a cap, and returns whether it exceeds the cap.
///
/// There is one counter for all CPUs, since the load of a target may be on one of them. It is incremented without
/// fetch, which kernels before 5.12 do not have. The value read afterwards includes at least this hit, so no more
/// than [`TargetConfig::hit_limit`] hits are accepted.
#[inline(always)]
pub fn is_past(target: u32, config: &TargetConfig) -> bool {
    let Some(state) = maps::STATES.get_ptr_mut(target) else {
        return false;
    };
    // SAFETY: a checked pointer into the map; only the field's address is taken.
    let hits = unsafe { &raw mut (*state).hits };
    atomic::add(hits, 1);
    // SAFETY: as above. Volatile, so that it is read after the addition.
    if unsafe { core::ptr::read_volatile(hits) } <= config.hit_limit {
        return false;
    }
    switch_off(target);
    true
}

/// Switches a target off, and sends an event.
#[inline(always)]
fn switch_off(target: u32) {
    let Some(config) = maps::TARGETS.get_ptr_mut(target) else {
        return;
    };
    // SAFETY: a checked pointer into the map, one word of which is written as a whole.
    unsafe { core::ptr::write_volatile(&raw mut (*config).enabled, 0) };
    // If there is no room, the reader notices when it next reads the counter.
    if let Some(mut entry) = maps::HOST_EVENTS.reserve::<HostEvent>(0) {
        entry.write(HostEvent {
            at_ns: clock::now(),
            subject: target,
            kind: host_event::CAPPED,
        });
        entry.submit(WAKEUP);
    }
}
