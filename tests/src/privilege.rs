//! Runs a program as a user with fewer privileges.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Numbers of the capabilities that gmpscope names (linux/capability.h).
pub const CAP_SYS_PTRACE: u32 = 19;
/// See [`CAP_SYS_PTRACE`].
pub const CAP_SYS_RESOURCE: u32 = 24;
/// See [`CAP_SYS_PTRACE`].
pub const CAP_PERFMON: u32 = 38;
/// See [`CAP_SYS_PTRACE`].
pub const CAP_BPF: u32 = 39;

/// _LINUX_CAPABILITY_VERSION_3: two words of each set.
const VERSION_3: u32 = 0x2008_0522;

/// Makes `command` run as this user, with these capabilities (a set of bits) and no others: they are ambient, as
/// with systemd's `AmbientCapabilities=`.
pub fn become_user(command: &mut Command, uid: u32, capabilities: u64) {
    // SAFETY: the closure makes system calls only, on memory of its own.
    unsafe { command.pre_exec(move || change(uid, capabilities)) };
}

fn change(uid: u32, capabilities: u64) -> io::Result<()> {
    // SAFETY: numbers only, and an empty list of groups.
    unsafe {
        checked(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        checked(libc::setgroups(0, std::ptr::null()))?;
        checked(libc::setresgid(uid, uid, uid))?;
        checked(libc::setresuid(uid, uid, uid))?;
    }
    let header = [VERSION_3, 0];
    let (low, high) = (capabilities as u32, (capabilities >> 32) as u32);
    // Effective, permitted and inheritable, first of the lower 32 capabilities, then of the others.
    let sets = [low, low, low, high, high, high];
    // SAFETY: both arrays have the layout and size that this version of the call reads.
    checked(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) } as i32)?;
    for number in (0..64).filter(|number| capabilities & 1 << number != 0) {
        // SAFETY: numbers only.
        checked(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) })?;
    }
    Ok(())
}

fn checked(result: i32) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
