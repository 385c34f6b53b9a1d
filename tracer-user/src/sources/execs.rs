//! Targets that their own execve ends. Probes that are bound to a process stay in it: where it executes the same file
//! again, they hit in the new program, and until somebody notices, its waits would count as those of the old one. So the
//! kernel side switches a target off in the execve itself.

use aya::programs::raw_trace_point::RawTracePointLink;
use tracer_ebpf::{TargetState, host::HostConfig};

use super::starts;
use crate::{
    bpf::{
        Kernel,
        attach::in_initial_pid_namespace,
        maps::{self, Abi},
    },
    error::Result,
};

/// Makes the next execve of a process switch off the target in `slot`, whose state is reset.
///
/// # Errors
/// A table cannot be written.
pub fn register(kernel: &mut Kernel, slot: u32, pid: u32) -> Result<()> {
    let state = TargetState {
        pid,
        stamps_left: i64::from(kernel.capacity.kept_stamps()),
        ..TargetState::default()
    };
    maps::set_state(&mut kernel.ebpf, slot, state)?;
    maps::slots_by_pid(&mut kernel.ebpf)?
        .insert(pid, slot, 0)
        .map_err(maps::context("write", "SLOTS_BY_PID"))
}

/// Undoes [`register`], unless the process has another slot by now.
///
/// # Errors
/// The table cannot be opened.
pub fn unregister(kernel: &mut Kernel, slot: u32, pid: u32) -> Result<()> {
    let mut slots = maps::slots_by_pid(&mut kernel.ebpf)?;
    if slots.get(&pid, 0).is_ok_and(|of| of == slot) {
        // Fails only if it is gone.
        let _ = slots.remove(&pid);
    }
    Ok(())
}

/// Attaches the program that switches targets off. It runs at every execve of the host. A daemon does not need it: the
/// program that reports processes to it does the same.
///
/// # Errors
/// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
pub fn watch(kernel: &mut Kernel) -> Result<RawTracePointLink> {
    let (pidns_device, pidns_inode) = starts::own_pid_namespace()?;
    let config = HostConfig {
        pidns_device,
        pidns_inode,
        pidns_is_initial: u32::from(in_initial_pid_namespace()),
        ..HostConfig::default()
    };
    maps::host_config(&mut kernel.ebpf)?
        .set(0, Abi(config), 0)
        .map_err(maps::context("write", "HOST_CONFIG"))?;
    kernel.attach_point("target_exec", "sched_process_exec")
}
