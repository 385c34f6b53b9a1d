//! `full`: every transition becomes a record in the ring. The target pays for everything that a program reads of it:
//! the reason of a wait, the creation site of a new goroutine, the goid of one that ends, and nothing else.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{Array, PerCpuArray},
    programs::ProbeContext,
};
use tracer_ebpf::{
    MAX_TARGETS, Meaning, Origin, Site, SiteKind, TargetConfig,
    full::{FullConfig, FullCounters, Transition, What, flag, status, statuses},
    gp_in,
};

use super::{atomic::count, memory, registers, rings::Ring, site, walk};

/// By target index.
#[map]
static FULL_CONFIG: Array<FullConfig> = Array::with_max_entries(MAX_TARGETS, 0);

/// By target index.
#[map]
static FULL_COUNTERS: PerCpuArray<FullCounters> = PerCpuArray::with_max_entries(MAX_TARGETS, 0);

/// Handles a hit of a site of a `full` plan. With `STACKS` the stacks of goroutines that block are recorded: these are
/// separate programs, so that the others do not even test for it.
#[inline(always)]
pub fn hit<R: Ring, const STACKS: bool>(ctx: &ProbeContext, site: &Site) {
    let (Some(config), Some(full), Some(counters)) = (
        site::target_of(site),
        FULL_CONFIG.get(site.target),
        counters_of(site.target),
    ) else {
        return;
    };
    if site.kind == SiteKind::Entry as u8 {
        entered::<R>(ctx, config, full, counters, site);
        return;
    }
    let (g, old, new);
    if site.kind == SiteKind::StatusCall as u8 {
        let (first, second, third) = registers::args(ctx);
        (g, old, new) = (first, second as u32, third as u32);
    } else if site.kind == SiteKind::StatusEntry as u8 {
        g = if site.gp_in == gp_in::CURRENT {
            registers::g(ctx)
        } else {
            registers::args(ctx).0
        };
        (old, new) = (u32::from(site.old_in), u32::from(site.new_in));
    } else {
        if u8::from(registers::zero_flag(ctx)) != site.zf_when_swapped {
            count!(counters, failed_swaps);
            return;
        }
        g = registers::general(ctx, site.gp_in).wrapping_sub(u64::from(site.slot));
        if site.kind == SiteKind::Swapped as u8 {
            old = registers::general(ctx, site.old_in) as u32;
            new = registers::general(ctx, site.new_in) as u32;
        } else {
            (old, new) = (u32::from(site.old_in), u32::from(site.new_in));
        }
    }
    // A goroutine that changes its own status has not saved its registers.
    let walks = STACKS && g != registers::g(ctx);
    changed::<R>(config, full, counters, site, g, old, new, walks);
}

/// This CPU's counters of a target.
#[inline(always)]
pub fn counters_of(target: u32) -> Option<*mut FullCounters> {
    FULL_COUNTERS.get_ptr_mut(target)
}

/// Handles a change of a goroutine's status. With `walks` its stack is recorded if it blocks.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "inlined; a struct of them would be copied to the stack"
)]
fn changed<R: Ring>(
    config: &TargetConfig,
    full: &FullConfig,
    counters: *mut FullCounters,
    site: &Site,
    g: u64,
    old: u32,
    new: u32,
    walks: bool,
) {
    let (old, new) = (old & !status::SCAN, new & !status::SCAN);
    // The compiler knows that the index is in bounds, and would drop the check that the verifier needs.
    let row = core::hint::black_box(old as usize & 0xf);
    let wanted = match full.wanted.get(row) {
        Some(wanted) => u32::from(*wanted),
        None => 0,
    };
    if new > 0xf || wanted >> new & 1 == 0 {
        count!(counters, unrelated);
        return;
    }
    let mut record = Transition {
        at_ns: 0,
        subject: g,
        detail: 0,
        tid: 0,
        what: What::Goroutine as u8,
        status: statuses(old, new),
        reason: 0,
        flags: 0,
    };
    let (old, new) = (old as u8, new as u8);
    if new == status::RUNNABLE {
        record.reason = site.meaning.number();
        // goschedImpl is called both by runtime.Gosched and for preemption; only g.preempt distinguishes them.
        if site.meaning == Meaning::runnable(Origin::Yielded)
            && config.g_preempt != 0
            && memory::read::<u8>(g, config.g_preempt) == Some(1)
        {
            record.reason = Origin::Preempted as u8;
        }
    } else if new == status::WAITING && full.g_waitreason != 0 {
        match memory::read::<u8>(g, full.g_waitreason) {
            Some(reason) => record.reason = reason,
            None => record.flags = flag::UNREADABLE,
        }
    }
    let detail_offset = if old == status::DEAD && new != status::DEAD && new != status::SYSCALL {
        config.g_gopc
    } else if new == status::DEAD || new == status::DEADEXTRA {
        config.g_goid
    } else {
        0
    };
    if detail_offset != 0 {
        match memory::word(g, detail_offset) {
            Some(word) => record.detail = word,
            None => record.flags = flag::UNREADABLE,
        }
    }
    if walks && old == status::RUNNING && new == status::WAITING {
        record.detail = walk::key_of_waiting(site.target, g);
    }
    count!(counters, seen);
    send::<R>(counters, record);
}

/// Handles the entry of a function whose call is a transition.
#[inline(always)]
fn entered<R: Ring>(
    ctx: &ProbeContext,
    config: &TargetConfig,
    full: &FullConfig,
    counters: *mut FullCounters,
    site: &Site,
) {
    let (first, second, _) = registers::args(ctx);
    let what = site.meaning.number();
    let mut record = Transition {
        at_ns: 0,
        subject: 0,
        detail: 0,
        tid: 0,
        what,
        status: 0,
        reason: 0,
        flags: 0,
    };
    if what == What::Coroutine as u8 {
        record.detail = first;
        // g.coroarg is the coro, whose first field is the goroutine that continues (coro.go).
        match memory::word(first, full.g_coroarg).and_then(|coro| memory::word(coro, 0)) {
            Some(next) => record.subject = next,
            None => record.flags = flag::UNREADABLE,
        }
    } else if what == What::ProcessorAcquired as u8
        || what == What::ProcessorHandedOff as u8
        || what == What::GoroutineLocked as u8
    {
        record.subject = first;
    } else if what == What::ProcessorReleased as u8 {
        // This is rare, so the P may be looked up: g → m → p.
        record.subject = memory::word(registers::g(ctx), config.g_m)
            .filter(|_| config.m_p != 0)
            .and_then(|m| memory::word(m, config.m_p))
            .unwrap_or(0);
    } else if what == What::ProcessorsResized as u8 {
        record.subject = first & 0xffff_ffff;
    } else if what == What::MachineWanted as u8 {
        record.subject = first;
        record.reason = second as u8 & 1;
    } else if what == What::MachineCreated as u8 {
        record.detail = first;
        record.subject = second;
    } else if what == What::WorldStops as u8 && site.new_in != 0 {
        record.reason = first as u8;
    }
    count!(counters, seen);
    send::<R>(counters, record);
}

/// Puts a record into the ring of this CPU, with time and thread.
#[inline(always)]
fn send<R: Ring>(counters: *mut FullCounters, mut record: Transition) {
    record.tid = bpf_get_current_pid_tgid() as u32;
    put::<R>(counters, record);
}

/// Puts a record into the ring of this CPU, with the time.
#[inline(always)]
pub fn put<R: Ring>(counters: *mut FullCounters, mut record: Transition) {
    let Some(place) = R::reserve() else {
        count!(counters, ring_full);
        // SAFETY: this CPU's own entry of the map; a program that preempts this one writes the same value.
        unsafe { (*counters).lost = 1 };
        return;
    };
    if record.flags & flag::UNREADABLE != 0 {
        count!(counters, unreadable);
    }
    // SAFETY: as above.
    unsafe {
        if (*counters).lost != 0 {
            (*counters).lost = 0;
            record.flags |= flag::AFTER_LOSS;
        }
    }
    R::send(place, record);
}
