//! Finds the instruction that was hit.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_attach_cookie},
    programs::ProbeContext,
};
use tracer_ebpf::{Counters, Site, SiteKey, TargetConfig};

use super::{cap, maps, registers};

/// The site whose index is the probe's attach cookie.
#[inline(always)]
pub fn by_cookie(ctx: &ProbeContext) -> Option<&'static Site> {
    // SAFETY: the helper takes the program's context.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    maps::SITES.get(cookie as u32)
}

/// The site at this address of this process.
#[inline(always)]
pub fn by_ip(ctx: &ProbeContext) -> Option<&'static Site> {
    let key = SiteKey::of_process(registers::ip(ctx), (bpf_get_current_pid_tgid() >> 32) as u32);
    // SAFETY: entries are only removed after their probes are gone.
    unsafe { maps::SITES_BY_IP.get(&key) }
}

/// The site at this link-time address of a binary, in any process.
#[inline(always)]
pub fn by_link_time_address(binary: u32, address: u64) -> Option<&'static Site> {
    let key = SiteKey::of_binary(address, binary);
    // SAFETY: entries are only removed after their probes are gone.
    unsafe { maps::SITES_BY_IP.get(&key) }
}

/// Configuration of the site's target; `None` (and counted) while it is switched off, or past its hit cap.
#[inline(always)]
pub fn target_of(site: &Site) -> Option<&'static TargetConfig> {
    let config = maps::TARGETS.get(site.target)?;
    if config.enabled == 0 || (config.hit_limit != 0 && cap::is_past(site.target, config)) {
        super::atomic::count!(counters_of(site)?, disabled);
        return None;
    }
    Some(config)
}

/// This CPU's counters of the site's target.
#[inline(always)]
pub fn counters_of(site: &Site) -> Option<*mut Counters> {
    maps::COUNTERS.get_ptr_mut(site.target)
}
