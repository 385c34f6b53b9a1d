//! The tasks of an init system: file systems at the beginning, power off at the end; and reading the kernel's log.

use std::ffi::CStr;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::{io, mem};

use anyhow::{Context, Result};

/// File systems by type and mount point. Not every kernel has the last ones.
const NEEDED: [(&CStr, &CStr); 4] = [
    (c"proc", c"/proc"),
    (c"sysfs", c"/sys"),
    (c"devtmpfs", c"/dev"),
    (c"tmpfs", c"/tmp"),
];
const OPTIONAL: [(&CStr, &CStr); 1] = [(c"securityfs", c"/sys/kernel/security")];

/// Numbers of syslog(2).
const SYSLOG_ACTION_READ_ALL: libc::c_int = 3;
const SYSLOG_ACTION_CONSOLE_OFF: libc::c_int = 6;

/// Mounts what every Linux system has, and keeps the kernel's messages off the console, which is ours.
pub fn set_up() -> Result<()> {
    for (kind, place) in NEEDED {
        mount(kind, place).with_context(|| format!("mounting {kind:?} on {place:?}"))?;
    }
    for (kind, place) in OPTIONAL {
        // What this file system would show is reported as absent.
        let _ = mount(kind, place);
    }
    loopback_up().context("switching the loopback interface on")?;
    // SAFETY: takes no buffer for this action.
    unsafe { libc::klogctl(SYSLOG_ACTION_CONSOLE_OFF, std::ptr::null_mut(), 0) };
    Ok(())
}

fn mount(kind: &CStr, place: &CStr) -> io::Result<()> {
    // SAFETY: strings that live until the call returns, and no data.
    let result = unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    if result == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // The kernel has already mounted it.
        e if e.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        e => Err(e),
    }
}

/// Brings up the loopback interface, to which the kernel then gives 127.0.0.1: programs connect to themselves there.
fn loopback_up() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is what this call reads, and lives until it returns.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads what the kernel has logged since boot.
pub fn kernel_log() -> String {
    let mut text = vec![0_u8; 1 << 20];
    // SAFETY: the buffer is as long as is said.
    let n = unsafe {
        libc::klogctl(
            SYSLOG_ACTION_READ_ALL,
            text.as_mut_ptr().cast(),
            text.len() as libc::c_int,
        )
    };
    text.truncate(usize::try_from(n).unwrap_or(0));
    String::from_utf8_lossy(&text).into_owned()
}

/// Switches the machine off; does not return.
pub fn power_off() -> ! {
    // SAFETY: no pointers. The first process may do this, and no other process is affected.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    // If that failed, the end of the first process makes the kernel panic, which reboots it.
    std::process::exit(1)
}
