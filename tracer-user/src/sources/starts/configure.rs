//! The configuration of the kernel side of starts.

use std::time::Duration;

use tracer_ebpf::{TargetConfig, start::StartConfig};

use super::{calls, task::TaskOffsets, traced_processes::TracedProcesses};
use crate::{
    bpf::{Kernel, maps},
    error::{Error, Result},
};

/// The slot of the counters and of the only target configuration.
pub(super) const SLOT: u32 = 0;

/// A duration as the kernel side takes it.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes the configuration of a [`StartSource`](super::StartSource).
///
/// # Errors
/// A table of the kernel's cannot be written.
pub(super) fn configure(
    kernel: &mut Kernel,
    traced: TracedProcesses,
    slow_call: Duration,
    offsets: TaskOffsets,
) -> Result<()> {
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let config = StartConfig {
        slow_call_ns: nanoseconds(slow_call),
        every_exec: traced.every_exec(),
        task_pid: offsets.pid,
        task_state: offsets.state,
        task_minor_faults: offsets.minor_faults,
        task_major_faults: offsets.major_faults,
        execve: number(libc::SYS_execve),
        execveat: number(libc::SYS_execveat),
        task_tgid: offsets.tgid,
        tree: u32::from(traced == TracedProcesses::Tree),
        ..StartConfig::default()
    };
    configure_marks(kernel, config)?;
    let target = TargetConfig {
        enabled: 1,
        ..TargetConfig::default()
    };
    maps::configure_target(&mut kernel.ebpf, SLOT, target)?;
    let mut kinds = maps::call_kinds(&mut kernel.ebpf)?;
    for (number, kind) in calls::kinds() {
        kinds
            .insert(number, kind, 0)
            .map_err(maps::context("write", "CALL_KINDS"))?;
    }
    Ok(())
}

/// Writes the configuration of marks, with our own PID namespace.
///
/// # Errors
/// The namespace cannot be examined, or the table cannot be written.
pub(in crate::sources) fn configure_marks(kernel: &mut Kernel, config: StartConfig) -> Result<()> {
    let (pidns_device, pidns_inode) = own_pid_namespace()?;
    let config = StartConfig {
        pidns_device,
        pidns_inode,
        ..config
    };
    maps::start_config(&mut kernel.ebpf)?
        .set(0, maps::Abi(config), 0)
        .map_err(maps::context("write", "START_CONFIG"))
}

/// Changes the configuration of marks.
///
/// # Errors
/// The table cannot be read or written.
pub(in crate::sources) fn change_marks(
    kernel: &mut Kernel,
    change: impl FnOnce(&mut StartConfig),
) -> Result<()> {
    let mut table = maps::start_config(&mut kernel.ebpf)?;
    let mut config = table.get(&0, 0).map_err(maps::context("read", "START_CONFIG"))?.0;
    change(&mut config);
    table
        .set(0, maps::Abi(config), 0)
        .map_err(maps::context("write", "START_CONFIG"))
}

/// Device and inode of our own PID namespace.
///
/// # Errors
/// The namespace cannot be examined.
pub(in crate::sources) fn own_pid_namespace() -> Result<(u64, u64)> {
    let namespace = rustix::fs::stat("/proc/self/ns/pid")
        .map_err(|e| Error::failed(format!("/proc/self/ns/pid cannot be examined: {e}")))?;
    Ok((namespace.st_dev, namespace.st_ino))
}
