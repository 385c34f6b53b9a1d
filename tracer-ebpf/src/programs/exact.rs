//! `exact`: two hits per scheduling cycle, one where a goroutine becomes runnable and one where it begins to run; the
//! latency between them is added to a histogram per CPU and origin, in the kernel.

use aya_ebpf::programs::ProbeContext;
use tracer_ebpf::{Counters, Histogram, Origin, Site, SiteKind, Stamp, TargetConfig, histogram, stamp_key};

use super::{
    atomic::{self, count},
    clock, maps, memory, registers, site, slow,
};

/// Status of a g, as in runtime2.go; unchanged from Go 1.19 to 1.27.
const RUNNABLE: u32 = 1;
const RUNNING: u32 = 2;

/// Handles a hit of a site of an `exact` plan.
#[inline(always)]
pub fn hit(ctx: &ProbeContext, site: &Site) {
    let (Some(config), Some(counters)) = (site::target_of(site), site::counters_of(site)) else {
        return;
    };
    if site.kind == SiteKind::StatusCall as u8 {
        let (g, old, new) = registers::args(ctx);
        changed(ctx, config, counters, site, g, old as u32, new as u32);
        return;
    }
    if site.kind == SiteKind::StatusEntry as u8 {
        let (g, _, _) = registers::args(ctx);
        if u32::from(site.new_in) == RUNNABLE {
            into_runnable(config, counters, site, g);
        } else {
            out_of_runnable(ctx, config, counters, site, g, u32::from(site.new_in));
        }
        return;
    }
    if u8::from(registers::zero_flag(ctx)) != site.zf_when_swapped {
        count!(counters, failed_swaps);
        return;
    }
    let g = registers::general(ctx, site.gp_in).wrapping_sub(u64::from(site.slot));
    if site.kind == SiteKind::Swapped as u8 {
        let old = registers::general(ctx, site.old_in);
        let new = registers::general(ctx, site.new_in);
        changed(ctx, config, counters, site, g, old as u32, new as u32);
    } else if site.kind == SiteKind::SwappedToRunnable as u8 {
        into_runnable(config, counters, site, g);
    } else {
        out_of_runnable(ctx, config, counters, site, g, RUNNING);
    }
}

/// Handles a change of status whose kind follows from the two values.
#[inline(always)]
fn changed(
    ctx: &ProbeContext,
    config: &TargetConfig,
    counters: *mut Counters,
    site: &Site,
    g: u64,
    old: u32,
    new: u32,
) {
    if new == RUNNABLE {
        into_runnable(config, counters, site, g);
    } else if old == RUNNABLE {
        out_of_runnable(ctx, config, counters, site, g, new);
    } else {
        count!(counters, unrelated);
    }
}

#[inline(always)]
fn into_runnable(config: &TargetConfig, counters: *mut Counters, site: &Site, g: u64) {
    count!(counters, into_runnable);
    let mut origin = u32::from(site.meaning.number());
    // goschedImpl is called both by runtime.Gosched and for preemption; only g.preempt distinguishes them.
    if origin == Origin::Yielded as u32
        && config.g_preempt != 0
        && memory::read::<u8>(g, config.g_preempt) == Some(1)
    {
        origin = Origin::Preempted as u32;
    }
    let key = stamp_key(site.target, g);
    if let Some(stamp) = maps::STAMPS.get_ptr_mut(&key) {
        // SAFETY: a checked pointer into the map. A goroutine's transitions are sequential, so no other CPU writes
        // this entry now.
        unsafe {
            (*stamp).origin = origin;
            (*stamp).at_ns = clock::now();
        }
        return;
    }
    insert_stamp(counters, site, key, origin);
}

/// Makes the entry of a goroutine that has none: one that it keeps, while there is room for such, and after that one for
/// this wait alone.
#[inline(always)]
fn insert_stamp(counters: *mut Counters, site: &Site, key: u64, origin: u32) {
    let at_ns = clock::now();
    let state = maps::STATES.get_ptr_mut(site.target);
    let keeps = match state {
        // SAFETY: a checked pointer into the map. CPUs that read it at the same time may keep a few too many.
        Some(state) => unsafe { (*state).stamps_left > 0 },
        None => false,
    };
    let stamp = Stamp {
        at_ns,
        origin,
        once: u32::from(!keeps),
    };
    if maps::STAMPS.insert(&key, &stamp, 0).is_err() {
        count!(counters, stamps_full);
        return;
    }
    if keeps && let Some(state) = state {
        // SAFETY: as above; only the field's address is taken. Adding the largest number subtracts one.
        atomic::add(unsafe { &raw mut (*state).stamps_left }.cast(), u64::MAX);
    }
}

#[inline(always)]
fn out_of_runnable(
    ctx: &ProbeContext,
    config: &TargetConfig,
    counters: *mut Counters,
    site: &Site,
    g: u64,
    new: u32,
) {
    let now = clock::now();
    let key = stamp_key(site.target, g);
    let (since, origin) = match maps::STAMPS.get_ptr_mut(&key) {
        // SAFETY: as in `into_runnable`. Nothing of the entry is used once it is removed, since another goroutine may
        // have it by then.
        Some(stamp) => unsafe {
            let seen = ((*stamp).at_ns, (*stamp).origin);
            (*stamp).at_ns = 0;
            if (*stamp).once != 0 {
                // If that fails, the goroutine's next wait uses the entry, and its end removes it.
                let _ = maps::STAMPS.remove(&key);
            }
            seen
        },
        None => (0, 0),
    };
    if new != RUNNING {
        count!(counters, out_of_runnable);
        return;
    }
    count!(counters, into_running);
    if since == 0 {
        count!(counters, unpaired);
        return;
    }
    if now < since {
        count!(counters, negative);
        return;
    }
    let latency = now - since;
    let index = site.target * Origin::COUNT + origin;
    match maps::EXACT_HISTOGRAMS.get_ptr_mut(index) {
        Some(histogram) => record(histogram, latency),
        None => count!(counters, histograms_full),
    }
    if latency >= config.slower_ns {
        slow::send(ctx, config, counters, site.target, g, latency, now, origin);
    }
}

/// Adds one wait, with sum and extremes, to the histogram of this CPU.
#[inline(always)]
fn record(to: *mut Histogram, latency: u64) {
    add(to, latency);
    // SAFETY: a checked pointer into the map.
    atomic::add(unsafe { &raw mut (*to).sum_ns }, latency);
    // SAFETY: as above. If another program preempts this one between read and write, an extreme may be lost, but
    // never a count.
    unsafe {
        if latency > (*to).max_ns {
            (*to).max_ns = latency;
        }
        if !latency > (*to).min_ns_inverted {
            (*to).min_ns_inverted = !latency;
        }
    }
}

/// Adds one wait to its bucket.
#[inline(always)]
pub fn add(to: *mut Histogram, latency: u64) {
    // The compiler knows that a bucket is in bounds, and would drop the check that the verifier needs: this hides the
    // origin of the number.
    let bucket = core::hint::black_box(histogram::bucket_of(latency));
    if bucket >= histogram::BUCKETS {
        return;
    }
    // SAFETY: the pointer was checked; `bucket` is below the number of buckets.
    unsafe { atomic::add((&raw mut (*to).counts).cast::<u64>().add(bucket), 1) }
}
