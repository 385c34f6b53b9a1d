//! Marks of a start: the probed instructions between the ELF entry and `main.main`.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, programs::ProbeContext};
use tracer_ebpf::{
    Site, gp_in,
    start::{MAX_GO_STATEMENTS, MAX_PS, Mark, Start, phase},
};

use super::{atomic::count, lifecycle, maps, memory, registers, site};

/// Finds the site of a hit by its link-time address, where there are no cookies. The load bias is computed at the ELF
/// entry, which is hit first.
#[inline(always)]
pub fn site_by_address(ctx: &ProbeContext) -> Option<&'static Site> {
    let ip = registers::ip(ctx);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let start = lifecycle::start_of(tgid)?;
    if start.phase < phase::STARTING {
        let config = maps::START_CONFIG.get(0)?;
        let entry = match config.tree {
            0 => config.entry,
            _ => *maps::ENTRIES.get(start.binary)?,
        };
        start.bias = ip.wrapping_sub(entry);
    }
    site::by_link_time_address(start.binary, ip.wrapping_sub(start.bias))
}

/// Handles a hit of a probed instruction in a starting process.
#[inline(always)]
pub fn hit(ctx: &ProbeContext, site: &Site) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(counters) = site::counters_of(site) else {
        return;
    };
    let Some(start) = lifecycle::start_of((pid_tgid >> 32) as u32) else {
        // Another process of the binary, or one whose execve was not seen.
        return count!(counters, disabled);
    };
    let mark = u32::from(site.meaning.number());
    if start.phase == phase::DONE || !is_new(start, mark) {
        return count!(counters, unrelated);
    }
    let Some(value) = value(ctx, site, start, mark) else {
        return count!(counters, unrelated);
    };
    if mark == Mark::Entry as u32 {
        start.phase = phase::STARTING;
        start.target = site.target;
    }
    if lifecycle::send(start, mark, value, pid_tgid) {
        count!(counters, marks);
    } else {
        count!(counters, marks_lost);
    }
    if mark == Mark::MainMain as u32 || mark == Mark::LibraryReady as u32 {
        start.phase = phase::DONE;
        lifecycle::arrived();
    }
}

/// Whether a mark is to be sent: those that are sent once are not sent again.
#[inline(always)]
fn is_new(start: &mut Start, mark: u32) -> bool {
    let many = mark == Mark::InitBegin as u32
        || mark == Mark::InitEnd as u32
        || mark == Mark::PBound as u32
        || mark == Mark::GoStatement as u32;
    if many {
        return true;
    }
    let bit = 1u32 << (mark & 31);
    let new = start.seen & bit == 0;
    start.seen |= bit;
    new
}

/// The value of a mark; `None` if it is not to be sent.
#[inline(always)]
fn value(ctx: &ProbeContext, site: &Site, start: &mut Start, mark: u32) -> Option<u64> {
    if mark == Mark::Entry as u32 {
        return Some(registers::ip(ctx));
    }
    if mark == Mark::InitBegin as u32 {
        return Some(init_function(ctx, site).unwrap_or(0));
    }
    let (first, _, _) = registers::args(ctx);
    if mark == Mark::ProcResizeBegin as u32 {
        return Some(first & 0xffff_ffff);
    }
    if mark == Mark::PBound as u32 {
        let id = memory::read::<i32>(first, site.slot)? as u32;
        return is_first_binding(start, id).then_some(u64::from(id));
    }
    if mark == Mark::GoStatement as u32 {
        if start.go_statements >= MAX_GO_STATEMENTS {
            return None;
        }
        start.go_statements += 1;
        return memory::word(first, 0);
    }
    Some(0)
}

/// Address of the first function of the package's init task (proc.go, `initTask`): from Go 1.21 on after its two
/// 32-bit fields, before that after three words and as many words as the second one says.
#[inline(always)]
fn init_function(ctx: &ProbeContext, site: &Site) -> Option<u64> {
    let task = match site.gp_in {
        gp_in::STACK_SLOT => memory::word(registers::sp(ctx), site.slot)?,
        number => registers::general(ctx, number),
    };
    if site.old_in == 0 {
        return memory::word(task, 8);
    }
    let dependencies = memory::word(task, 8)?;
    memory::word(task.wrapping_add(dependencies.wrapping_mul(8)), 24)
}

/// Whether P `id` was never taken by an M before; Ps past the table are never new.
#[inline(always)]
fn is_first_binding(start: &mut Start, id: u32) -> bool {
    if id >= MAX_PS {
        return false;
    }
    let word = (id / 64) as usize & (MAX_PS as usize / 64 - 1);
    let bit = 1u64 << (id & 63);
    let new = start.ps_bound[word] & bit == 0;
    start.ps_bound[word] |= bit;
    new
}
