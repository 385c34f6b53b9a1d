//! The trees of followed processes and their descendants.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, programs::RawTracePointContext};
use tracer_ebpf::start::{StartConfig, binary};

use super::{
    atomic::count,
    lifecycle::{field, own_pid},
    maps,
};

/// Handles a fork of the current process: the children of a member become members.
#[inline(always)]
pub fn forked(ctx: &RawTracePointContext) {
    let Some(config) = maps::START_CONFIG.get(0) else {
        return;
    };
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    if config.tree == 0 || !is_member(parent) {
        return;
    }
    let child: u64 = ctx.arg(1);
    match field::<u32>(child, config.task_tgid) {
        Some(tgid) if tgid != parent => add(tgid),
        _ => {}
    }
}

/// Handles a call of execve by the current process, `tgid`. Returns whether it is a member; one that is held becomes
/// one.
#[inline(always)]
pub fn execve_entered(config: &StartConfig, tgid: u32) -> bool {
    let pid = own_pid(config.pidns_device, config.pidns_inode);
    if !is_member(tgid) {
        // SAFETY: only the existence of the entry is tested.
        if pid == 0 || unsafe { maps::HELD.get(&pid) }.is_none() {
            return false;
        }
        add(tgid);
    }
    let _ = maps::HELD.insert(&key(pid, tgid), &binary::UNKNOWN, 0);
    true
}

/// The binary that the current process executes, or one of `start::binary`; 0, the only one, without a tree.
#[inline(always)]
pub fn binary_of(tgid: u32) -> u32 {
    let Some(config) = maps::START_CONFIG.get(0) else {
        return binary::UNKNOWN;
    };
    if config.tree == 0 {
        return 0;
    }
    // SAFETY: a number, written before the file was opened for execve, which has happened.
    unsafe { maps::HELD.get(&key(own_pid(config.pidns_device, config.pidns_inode), tgid)) }
        .copied()
        .unwrap_or(binary::UNKNOWN)
}

/// Handles the end of the current process, `tgid`.
#[inline(always)]
pub fn exited(tgid: u32) {
    let Some(config) = maps::START_CONFIG.get(0) else {
        return;
    };
    if config.tree == 0 || !is_member(tgid) {
        return;
    }
    let _ = maps::TREE.remove(&tgid);
    let _ = maps::HELD.remove(&key(own_pid(config.pidns_device, config.pidns_inode), tgid));
}

#[inline(always)]
fn is_member(tgid: u32) -> bool {
    // SAFETY: the value is not used.
    unsafe { maps::TREE.get(&tgid) }.is_some()
}

#[inline(always)]
fn add(tgid: u32) {
    if maps::TREE.insert(&tgid, &0, 0).is_err()
        && let Some(counters) = maps::COUNTERS.get_ptr_mut(0)
    {
        count!(counters, tree_full);
    }
}

/// The key of `HELD`: the id of the process for the reader of fanotify's events in gmpscope's PID namespace.
#[inline(always)]
fn key(pid: u32, tgid: u32) -> u32 {
    if pid == 0 { tgid } else { pid }
}
