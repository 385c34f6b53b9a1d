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
mod calls;
mod cap;
mod clock;
mod exact;
mod lifecycle;
mod maps;
mod marks;
mod memory;
mod processes;
mod registers;
mod sampled;
mod site;
mod slow;
mod stack;
mod threads;
mod transition;
mod tree;
mod walk;

use aya_ebpf::{
    macros::{raw_tracepoint, uprobe},
    programs::{ProbeContext, RawTracePointContext},
};

/// `exact`: every hit of a site into or out of Runnable.
#[uprobe]
pub fn exact_cookie(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_cookie(&ctx) {
        exact::hit(&ctx, site);
    } else {
        stack::is_the_threads_own(&ctx);
    }
    0
}

/// `exact`, on kernels without attach cookies.
#[uprobe]
pub fn exact_ip(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_ip(&ctx) {
        exact::hit(&ctx, site);
    } else {
        stack::is_the_threads_own(&ctx);
    }
    0
}

/// `sampled`: the end of a wait that the runtime itself tracked.
#[uprobe]
pub fn sampled_cookie(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_cookie(&ctx) {
        sampled::hit(&ctx, site);
    } else {
        stack::is_the_threads_own(&ctx);
    }
    0
}

/// `sampled`, on kernels without attach cookies.
#[uprobe]
pub fn sampled_ip(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_ip(&ctx) {
        sampled::hit(&ctx, site);
    } else {
        stack::is_the_threads_own(&ctx);
    }
    0
}

/// `full`: a transition of a goroutine, a P, an M or the world.
#[uprobe]
pub fn full_cookie(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_cookie(&ctx) {
        transition::hit::<false>(&ctx, site);
    } else {
        stack::is_the_threads_own(&ctx);
    }
    0
}

/// `full`, on kernels without attach cookies.
#[uprobe]
pub fn full_ip(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_ip(&ctx) {
        transition::hit::<false>(&ctx, site);
    } else {
        stack::is_the_threads_own(&ctx);
    }
    0
}

/// `full`, with the stacks of goroutines that block.
#[uprobe]
pub fn stacks_cookie(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_cookie(&ctx) {
        transition::hit::<true>(&ctx, site);
    } else {
        stack::is_the_threads_own(&ctx);
    }
    0
}

/// The same, on kernels without attach cookies.
#[uprobe]
pub fn stacks_ip(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_ip(&ctx) {
        transition::hit::<true>(&ctx, site);
    } else {
        stack::is_the_threads_own(&ctx);
    }
    0
}

/// A moment of a process's start.
#[uprobe]
pub fn mark_cookie(ctx: ProbeContext) -> u32 {
    if let Some(site) = site::by_cookie(&ctx) {
        marks::hit(&ctx, site);
    } else {
        stack::is_the_threads_own(&ctx);
    }
    0
}

/// The same, on kernels without attach cookies.
#[uprobe]
pub fn mark_ip(ctx: ProbeContext) -> u32 {
    if let Some(site) = marks::site_by_address(&ctx) {
        marks::hit(&ctx, site);
    } else {
        stack::is_the_threads_own(&ctx);
    }
    0
}

/// A process may be about to start the program.
#[raw_tracepoint]
pub fn sys_enter(ctx: RawTracePointContext) -> u32 {
    calls::entered(&ctx);
    0
}

/// A system call of a process that starts has returned.
#[raw_tracepoint]
pub fn sys_exit(ctx: RawTracePointContext) -> u32 {
    calls::returned(&ctx);
    0
}

/// A process makes another, or a thread.
#[raw_tracepoint]
pub fn sched_process_fork(ctx: RawTracePointContext) -> u32 {
    tree::forked(&ctx);
    0
}

/// A program is about to take the place of another.
#[raw_tracepoint]
pub fn sched_prepare_exec(_ctx: RawTracePointContext) -> u32 {
    lifecycle::prepared();
    0
}

/// A program has taken the place of another.
#[raw_tracepoint]
pub fn sched_process_exec(_ctx: RawTracePointContext) -> u32 {
    lifecycle::executed();
    0
}

/// A thread ends.
#[raw_tracepoint]
pub fn sched_process_exit(_ctx: RawTracePointContext) -> u32 {
    lifecycle::exited();
    0
}

/// At `sched_process_exec`: a process has become another program.
#[raw_tracepoint]
pub fn process_exec(_ctx: RawTracePointContext) -> u32 {
    processes::executed();
    0
}

/// At `sched_process_exit`: a process may be about to end.
#[raw_tracepoint]
pub fn process_exit(_ctx: RawTracePointContext) -> u32 {
    processes::exited();
    0
}

/// A CPU goes from one thread to another.
#[raw_tracepoint]
pub fn sched_switch(ctx: RawTracePointContext) -> u32 {
    lifecycle::switched(&ctx);
    0
}

/// `full`: a CPU goes from one thread to another.
#[raw_tracepoint]
pub fn full_switch(ctx: RawTracePointContext) -> u32 {
    threads::switched(&ctx);
    0
}

/// `full`: a thread is woken.
#[raw_tracepoint]
pub fn full_wakeup(ctx: RawTracePointContext) -> u32 {
    threads::woken(&ctx);
    0
}

/// `full`: a thread ends.
#[raw_tracepoint]
pub fn full_exit(_ctx: RawTracePointContext) -> u32 {
    threads::ended();
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
