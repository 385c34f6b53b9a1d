//! The kernel side: entry points only. Each program exists twice, since a probed instruction is identified by its
//! attach cookie where the kernel has them, and otherwise by its address: `*_cookie` are attached by one uprobe_multi
//! link (or perf events from 5.15 on), `*_ip` by perf events on older kernels.
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

mod programs;

use aya_ebpf::{
    macros::{raw_tracepoint, uprobe},
    programs::{ProbeContext, RawTracePointContext},
};
use tracer_ebpf::Site;

use self::programs::{
    calls, exact, lifecycle, marks, processes,
    rings::{PerCpu, Shared},
    sampled, site, stack, target, threads, transition, tree,
};

/// Declares pairs of entry points for uprobes, which find the site of a hit by attach cookie and by address. Each has
/// the tail call that keeps the kernel from giving it a private stack ([`stack`]).
macro_rules! uprobes {
    ($($(#[$doc:meta])* $cookie:ident => $hit:expr, $ip:ident ($by_ip:path) => $hit_ip:expr;)*) => {$(
        $(#[$doc])*
        #[uprobe]
        pub fn $cookie(ctx: ProbeContext) -> u32 {
            enter(&ctx, site::by_cookie(&ctx), $hit)
        }

        $(#[$doc])*
        ///
        /// On kernels without attach cookies.
        #[uprobe]
        pub fn $ip(ctx: ProbeContext) -> u32 {
            enter(&ctx, $by_ip(&ctx), $hit_ip)
        }
    )*};
}

#[inline(always)]
fn enter(ctx: &ProbeContext, site: Option<&'static Site>, hit: impl Fn(&ProbeContext, &Site)) -> u32 {
    match site {
        Some(site) => hit(ctx, site),
        None => stack::is_the_threads_own(ctx),
    }
    0
}

uprobes! {
    /// `exact`: every hit of a site into or out of Runnable.
    exact_cookie => exact::hit, exact_ip (site::by_ip) => exact::hit;
    /// `sampled`: the end of a wait that the runtime itself tracked.
    sampled_cookie => sampled::hit, sampled_ip (site::by_ip) => sampled::hit;
    /// `full`: a transition of a goroutine, a P, an M or the world.
    full_cookie => transition::hit::<PerCpu, false>, full_ip (site::by_ip) => transition::hit::<Shared, false>;
    /// `full`, with the stacks of goroutines that block.
    stacks_cookie => transition::hit::<PerCpu, true>, stacks_ip (site::by_ip) => transition::hit::<Shared, true>;
    /// A moment of a process's start.
    mark_cookie => marks::hit, mark_ip (marks::site_by_address) => marks::hit;
}

/// A process may be about to start the program.
#[raw_tracepoint]
pub fn sys_enter(ctx: RawTracePointContext) -> u32 {
    calls::entered(&ctx);
    0
}

/// A system call of a starting process has returned.
#[raw_tracepoint]
pub fn sys_exit(ctx: RawTracePointContext) -> u32 {
    calls::returned(&ctx);
    0
}

/// A process creates another, or a thread.
#[raw_tracepoint]
pub fn sched_process_fork(ctx: RawTracePointContext) -> u32 {
    tree::forked(&ctx);
    0
}

/// An `execve` is about to replace a program.
#[raw_tracepoint]
pub fn sched_prepare_exec(_ctx: RawTracePointContext) -> u32 {
    lifecycle::prepared();
    0
}

/// An `execve` has replaced a program.
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

/// At `sched_process_exec`, without a daemon: a process that may be the target has executed another program.
#[raw_tracepoint]
pub fn target_exec(_ctx: RawTracePointContext) -> u32 {
    if let Some(config) = programs::maps::HOST_CONFIG.get(0) {
        target::executed(config);
    }
    0
}

/// At `sched_process_exec`: a process has executed another program.
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

/// A CPU switches from one thread to another.
#[raw_tracepoint]
pub fn sched_switch(ctx: RawTracePointContext) -> u32 {
    lifecycle::switched(&ctx);
    0
}

/// Declares pairs of entry points of `full` for tracepoints: one beside probes with cookies, and one beside those without.
macro_rules! thread_points {
    ($($(#[$doc:meta])* $cookie:ident, $ip:ident => $handle:ident;)*) => {$(
        $(#[$doc])*
        #[raw_tracepoint]
        pub fn $cookie(ctx: RawTracePointContext) -> u32 {
            threads::$handle::<PerCpu>(&ctx);
            0
        }

        $(#[$doc])*
        ///
        /// On kernels without attach cookies.
        #[raw_tracepoint]
        pub fn $ip(ctx: RawTracePointContext) -> u32 {
            threads::$handle::<Shared>(&ctx);
            0
        }
    )*};
}

thread_points! {
    /// `full`: a CPU goes from one thread to another.
    full_switch_cookie, full_switch_ip => switched;
    /// `full`: a thread is woken.
    full_wakeup_cookie, full_wakeup_ip => woken;
    /// `full`: a thread ends.
    full_exit_cookie, full_exit_ip => ended;
}

/// Does nothing, to measure the cost of the trap.
#[uprobe]
pub fn empty(_ctx: ProbeContext) -> u32 {
    0
}

/// Tracing helpers require a GPL-compatible licence; the programs are available under either.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
