//! The end of a target by execve: probes that are bound to its process hit in the next program, too, if that is the same
//! file, and what they see then is of another program.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_ebpf::host::HostConfig;

use super::{clock, lifecycle, maps};

/// Switches the current process's target off, if it is one, since it has executed another program.
#[inline(always)]
pub fn executed(config: &HostConfig) {
    let pid = if config.pidns_is_initial == 0 {
        lifecycle::own_pid(config.pidns_device, config.pidns_inode)
    } else {
        (bpf_get_current_pid_tgid() >> 32) as u32
    };
    // SAFETY: an entry is a number, which the user side writes as a whole.
    let Some(&slot) = (unsafe { maps::SLOTS_BY_PID.get(&pid) }) else {
        return;
    };
    let (Some(state), Some(target)) = (maps::STATES.get_ptr_mut(slot), maps::TARGETS.get_ptr_mut(slot))
    else {
        return;
    };
    // SAFETY: checked pointers into the maps, of which words are read and written as a whole. An entry may be left of a
    // process that had the slot before.
    unsafe {
        if core::ptr::read_volatile(&raw const (*state).pid) == pid {
            core::ptr::write_volatile(&raw mut (*state).executed_ns, clock::now());
            core::ptr::write_volatile(&raw mut (*target).enabled, 0);
        }
    }
}
