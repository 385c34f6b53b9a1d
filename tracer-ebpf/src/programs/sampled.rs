//! `sampled`: one hit per wait that the Go runtime itself tracks (nominally one in eight), at its end; aggregated by
//! the `go` statement that created the goroutine.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{helpers::generated::bpf_probe_read_user, programs::ProbeContext};
use tracer_ebpf::{G_BLOCK, OTHER_CREATION_SITES, Site, SiteKind, TargetConfig, creation_site_key, gp_in};

use super::{
    atomic::{self, count},
    clock, exact, maps, memory, registers, site, slow,
};

/// Handles a hit of a site of a `sampled` plan. A wait that reaches its histogram is counted only there, since the
/// target pays for everything that a hit does.
#[inline(always)]
pub fn hit(ctx: &ProbeContext, site: &Site) {
    let Some(config) = site::target_of(site) else {
        return;
    };
    let measured = if site.kind == SiteKind::WaitRecorded as u8 {
        wait_recorded(ctx, config, site)
    } else if site.kind == SiteKind::HistogramRecord as u8 {
        record_called(ctx, config, site)
    } else {
        tracked_wait_ends(ctx, config, site)
    };
    match measured {
        Ok(wait) => finish(ctx, config, site, &wait),
        Err(why) => failed(site, why),
    }
}

/// A wait that has ended.
struct Wait {
    g: u64,
    gopc: u64,
    latency: u64,
    /// When, or 0 if the time was not needed for the latency.
    now: u64,
}

/// Why a hit gave no wait.
enum Failure {
    /// It was `record` of another histogram.
    Unrelated,
    /// The goroutine could not be read.
    Unreadable,
    /// Its end is before its begin.
    Negative,
}

/// Handles the call of nanotime1 at the end of a wait that the runtime tracks.
#[inline(always)]
fn tracked_wait_ends(ctx: &ProbeContext, config: &TargetConfig, site: &Site) -> Result<Wait, Failure> {
    // Taken first, since what follows is not part of the wait.
    let now = clock::now();
    let g = goroutine(ctx, config, site).ok_or(Failure::Unreadable)?;
    let (since, gopc) = tracked_wait(g, config).ok_or(Failure::Unreadable)?;
    // The begin is a time of the target's clock.
    let end = now.wrapping_add(config.clock_offset_ns as u64);
    if since == 0 || end < since {
        return Err(Failure::Negative);
    }
    Ok(Wait {
        g,
        gopc,
        latency: end - since,
        now,
    })
}

/// Handles the call of `(*timeHistogram).record` for a wait, or its first branch if it is inlined: the latency is the
/// one that the runtime has measured.
#[inline(always)]
fn wait_recorded(ctx: &ProbeContext, config: &TargetConfig, site: &Site) -> Result<Wait, Failure> {
    let latency = registers::general(ctx, site.old_in);
    if (latency as i64) < 0 {
        return Err(Failure::Negative);
    }
    let (mut g, mut gopc) = (0, OTHER_CREATION_SITES);
    // Without a layout the wait counts under "other".
    if config.g_gopc != 0 {
        g = goroutine(ctx, config, site).unwrap_or(0);
        gopc = memory::word(g, config.g_gopc).unwrap_or(OTHER_CREATION_SITES);
    }
    Ok(Wait {
        g,
        gopc,
        latency,
        now: 0,
    })
}

/// Handles any call of `(*timeHistogram).record(h, duration)`, with the latency that the runtime has measured.
#[inline(always)]
fn record_called(ctx: &ProbeContext, config: &TargetConfig, site: &Site) -> Result<Wait, Failure> {
    let (histogram, latency, _) = registers::args(ctx);
    if histogram != config.time_to_run {
        return Err(Failure::Unrelated);
    }
    if (latency as i64) < 0 {
        return Err(Failure::Negative);
    }
    let (mut g, mut gopc) = (0, OTHER_CREATION_SITES);
    // Without a layout the goroutine cannot be found, and the wait counts under "other".
    if config.g_gopc != 0 && config.m_curg != 0 {
        g = goroutine(ctx, config, site).unwrap_or(0);
        gopc = memory::word(g, config.g_gopc).unwrap_or(OTHER_CREATION_SITES);
    }
    let now = clock::now();
    Ok(Wait {
        g,
        gopc,
        latency,
        now,
    })
}

/// Counts a hit that gave no wait.
#[inline(always)]
fn failed(site: &Site, why: Failure) {
    let Some(counters) = site::counters_of(site) else {
        return;
    };
    match why {
        Failure::Unrelated => count!(counters, unrelated),
        Failure::Unreadable => count!(counters, unreadable),
        Failure::Negative => count!(counters, negative_samples),
    }
}

/// Finds the g whose wait ends.
#[inline(always)]
fn goroutine(ctx: &ProbeContext, config: &TargetConfig, site: &Site) -> Option<u64> {
    match site.gp_in {
        gp_in::STACK_SLOT => memory::word(registers::sp(ctx), site.slot),
        gp_in::CURG => {
            let m = memory::word(registers::g(ctx), config.g_m)?;
            memory::word(m, config.m_curg)
        }
        number => Some(registers::general(ctx, number)),
    }
}

/// Reads `g.trackingStamp` and `g.gopc` by one read.
#[inline(always)]
fn tracked_wait(g: u64, config: &TargetConfig) -> Option<(u64, u64)> {
    let mut block = MaybeUninit::<[u64; G_BLOCK / 8]>::uninit();
    let from = g.wrapping_add(u64::from(config.g_tracking_stamp)) as *const c_void;
    // Directly into place: with aya's function the compiler would copy the whole block again.
    // SAFETY: the helper writes as many bytes as the block has, or fails.
    let block = unsafe {
        if bpf_probe_read_user(block.as_mut_ptr().cast(), G_BLOCK as u32, from) != 0 {
            return None;
        }
        block.assume_init_ref()
    };
    // Hidden from the compiler, so that the check stays where the verifier needs it.
    let index = core::hint::black_box((config.g_gopc.wrapping_sub(config.g_tracking_stamp) / 8) as usize);
    let gopc = if index < G_BLOCK / 8 {
        block[index]
    } else {
        OTHER_CREATION_SITES
    };
    Some((block[0], gopc))
}

#[inline(always)]
fn finish(ctx: &ProbeContext, config: &TargetConfig, site: &Site, wait: &Wait) {
    aggregate(site, config, wait);
    if wait.latency >= config.slower_ns
        && let Some(counters) = site::counters_of(site)
    {
        let origin = u32::from(u8::MAX);
        slow::send(
            ctx,
            config,
            counters,
            site.target,
            wait.g,
            wait.latency,
            if wait.now == 0 { clock::now() } else { wait.now },
            origin,
        );
    }
}

/// Adds the wait to the histogram of its creation site, which is created for its first wait, or to the one for all
/// others if there is no room.
#[inline(always)]
fn aggregate(site: &Site, config: &TargetConfig, wait: &Wait) {
    let key = creation_site_key(site.target, wait.gopc);
    if let Some(histogram) = maps::SAMPLED_HISTOGRAMS.get_ptr_mut(&key) {
        return exact::add(histogram, wait.latency);
    }
    if let Some(empty) = maps::EMPTY_HISTOGRAM.get(0)
        && let Some(state) = maps::STATES.get_ptr_mut(site.target)
        // SAFETY: a checked pointer into the map. CPUs that read it at the same time may create a few too many.
        && unsafe { (*state).creation_sites } < u64::from(config.creation_sites)
        // BPF_NOEXIST: another CPU may just have created it, and must not lose its first wait.
        && maps::SAMPLED_HISTOGRAMS.insert(&key, empty, 1).is_ok()
    {
        // After the insertion, so that the table has at least as many as the number says.
        // SAFETY: as above; only the field's address is taken.
        atomic::add(unsafe { &raw mut (*state).creation_sites }, 1);
    }
    if let Some(histogram) = maps::SAMPLED_HISTOGRAMS.get_ptr_mut(&key) {
        return exact::add(histogram, wait.latency);
    }
    let Some(counters) = site::counters_of(site) else {
        return;
    };
    count!(counters, creation_sites_full);
    let other = creation_site_key(site.target, OTHER_CREATION_SITES);
    match maps::SAMPLED_HISTOGRAMS.get_ptr_mut(&other) {
        Some(histogram) => exact::add(histogram, wait.latency),
        None => count!(counters, samples_full),
    }
}
