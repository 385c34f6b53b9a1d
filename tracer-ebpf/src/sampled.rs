//! `sampled`: one hit per wait that the Go runtime itself tracks (nominally one in eight), at the end of
//! it; aggregated by the `go` statement that made the goroutine.

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::ProbeContext};
use tracer_ebpf::{
    Counters, CreationSiteKey, G_BLOCK, OTHER_CREATION_SITES, Site, SiteKind, TargetConfig, gp_in,
};

use crate::{atomic::count, exact, maps, memory, registers, site, slow};

/// A site of a `sampled` plan was hit.
#[inline(always)]
pub fn hit(ctx: &ProbeContext, site: &Site) {
    let Some((config, counters)) = site::target_of(site) else {
        return;
    };
    if site.kind == SiteKind::HistogramRecord as u8 {
        record_called(ctx, config, counters, site);
        return;
    }
    // SAFETY: no arguments. Taken first: what follows is not part of the wait.
    let now = unsafe { bpf_ktime_get_ns() };
    count!(counters, sampled);
    let Some(g) = goroutine(ctx, config, site) else {
        count!(counters, unreadable);
        return;
    };
    let Some((since, gopc)) = tracked_wait(g, config) else {
        count!(counters, unreadable);
        return;
    };
    if since == 0 || now < since {
        count!(counters, negative);
        return;
    }
    finish(ctx, config, counters, site, g, gopc, now - since, now);
}

/// `(*timeHistogram).record(h, duration)`: the runtime has measured the wait itself.
#[inline(always)]
fn record_called(ctx: &ProbeContext, config: &TargetConfig, counters: *mut Counters, site: &Site) {
    let (histogram, latency, _) = registers::args(ctx);
    if histogram != config.time_to_run {
        count!(counters, unrelated);
        return;
    }
    count!(counters, sampled);
    if (latency as i64) < 0 {
        count!(counters, negative);
        return;
    }
    let g = goroutine(ctx, config, site).unwrap_or(0);
    let gopc = memory::word(g, config.g_gopc).unwrap_or(OTHER_CREATION_SITES);
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    finish(ctx, config, counters, site, g, gopc, latency, now);
}

/// The g whose wait ends.
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

/// `g.trackingStamp` and `g.gopc`, in one read.
#[inline(always)]
fn tracked_wait(g: u64, config: &TargetConfig) -> Option<(u64, u64)> {
    let block: [u64; G_BLOCK / 8] = memory::read(g, config.g_tracking_stamp)?;
    // Hidden from the compiler, so that the check stands where the verifier looks for it.
    let index = core::hint::black_box((config.g_gopc.wrapping_sub(config.g_tracking_stamp) / 8) as usize);
    let gopc = if index < G_BLOCK / 8 {
        block[index]
    } else {
        OTHER_CREATION_SITES
    };
    Some((block[0], gopc))
}

#[allow(
    clippy::too_many_arguments,
    reason = "BPF has no heap, and a struct of them would be copied"
)]
#[inline(always)]
fn finish(
    ctx: &ProbeContext,
    config: &TargetConfig,
    counters: *mut Counters,
    site: &Site,
    g: u64,
    gopc: u64,
    latency: u64,
    now: u64,
) {
    aggregate(counters, site.target, gopc, latency);
    if latency >= config.slower_ns {
        slow::send(
            ctx,
            config,
            counters,
            site.target,
            g,
            latency,
            now,
            u32::from(u8::MAX),
        );
    }
}

/// Adds the wait to its creation site's histogram, made now if it is the site's first, or to the one for
/// all others if there is no more room.
#[inline(always)]
fn aggregate(counters: *mut Counters, target: u32, gopc: u64, latency: u64) {
    let mut key = CreationSiteKey {
        gopc,
        target,
        reserved: 0,
    };
    if let Some(histogram) = maps::SAMPLED_HISTOGRAMS.get_ptr_mut(&key) {
        return exact::add(histogram, latency);
    }
    if let Some(empty) = maps::EMPTY_HISTOGRAM.get(0) {
        // BPF_NOEXIST: another CPU may just have made it, and must not lose its first wait.
        let _ = maps::SAMPLED_HISTOGRAMS.insert(&key, empty, 1);
    }
    if let Some(histogram) = maps::SAMPLED_HISTOGRAMS.get_ptr_mut(&key) {
        return exact::add(histogram, latency);
    }
    count!(counters, creation_sites_full);
    key.gopc = OTHER_CREATION_SITES;
    match maps::SAMPLED_HISTOGRAMS.get_ptr_mut(&key) {
        Some(histogram) => exact::add(histogram, latency),
        None => count!(counters, histograms_full),
    }
}
