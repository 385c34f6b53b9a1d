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
    let mut origin = u64::from(site.meaning.number());
    // goschedImpl is called both by runtime.Gosched and for preemption; only g.preempt distinguishes them.
    if origin == Origin::Yielded as u64
        && config.g_preempt != 0
        && memory::read::<u8>(g, config.g_preempt) == Some(1)
    {
        origin = Origin::Preempted as u64;
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
    let stamp = Stamp {
        at_ns: clock::now(),
        origin,
    };
    if maps::STAMPS.insert(&key, &stamp, 0).is_err() {
        count!(counters, stamps_full);
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
    let stamp = maps::STAMPS.get_ptr_mut(&stamp_key(site.target, g));
    let (since, origin) = match stamp {
        // SAFETY: as in `into_runnable`.
        Some(stamp) => unsafe {
            let seen = ((*stamp).at_ns, (*stamp).origin);
            (*stamp).at_ns = 0;
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
    let index = site.target * Origin::COUNT + origin as u32;
    match maps::EXACT_HISTOGRAMS.get_ptr_mut(index) {
        Some(histogram) => record(histogram, latency),
        None => count!(counters, histograms_full),
    }
    if latency >= config.slower_ns {
        slow::send(ctx, config, counters, site.target, g, latency, now, origin as u32);
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
