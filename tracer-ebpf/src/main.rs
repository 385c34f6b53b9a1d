//! The kernel side: entry points only. Each program comes twice, since a probed instruction is told apart
//! by its attach cookie where the kernel has them, else by its address:
//! `*_cookie` are attached through one uprobe_multi link (or perf events from 5.15 on), `*_ip` through
//! perf events on older kernels.
#![no_std]
#![no_main]
// Debian's compiler builds this with RUSTC_BOOTSTRAP: inline assembly for BPF is not stable yet.
#![feature(asm_experimental_arch)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "the helper takes a pointer to the key: a copy for it would cost stack"
)]
#![allow(
    missing_docs,
    reason = "the uprobe macro drops the entry points' doc comments"
)]

mod atomic;
mod clock;
mod exact;
mod maps;
mod memory;
mod registers;
mod sampled;
mod site;
mod slow;

use aya_ebpf::{macros::uprobe, programs::ProbeContext};

/// `exact`: every hit of a site into or out of Runnable.
#[uprobe]
pub fn exact_cookie(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_cookie(&ctx) {
        exact::hit(&ctx, site);
    }
    0
}

/// `exact`, on kernels without attach cookies.
#[uprobe]
pub fn exact_ip(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_ip(&ctx) {
        exact::hit(&ctx, site);
    }
    0
}

/// `sampled`: the end of a wait that the runtime itself tracked.
#[uprobe]
pub fn sampled_cookie(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_cookie(&ctx) {
        sampled::hit(&ctx, site);
    }
    0
}

/// `sampled`, on kernels without attach cookies.
#[uprobe]
pub fn sampled_ip(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_ip(&ctx) {
        sampled::hit(&ctx, site);
    }
    0
}

/// Nothing: what the trap alone costs.
#[uprobe]
pub fn empty(_ctx: ProbeContext) -> u32 {
    0
}

/// Helpers that trace need a GPL-compatible licence; the programs may be had under either.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
