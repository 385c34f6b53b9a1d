//! System calls by name, and what they work on.

use std::net::{Ipv4Addr, Ipv6Addr};

use tracer_ebpf::start::call_kind;

/// Number, name and [`call_kind`] of the system calls that may take long; others are ignored, since a start makes
/// hundreds of them.
///
/// Those that x86_64 has and arm64 does not are in [`LEGACY`].
const CALLS: &[(libc::c_long, &str, u32)] = &[
    (libc::SYS_openat, "openat", call_kind::OPEN_1),
    (libc::SYS_openat2, "openat2", call_kind::OPEN_1),
    (libc::SYS_newfstatat, "newfstatat", call_kind::PATH_1),
    (libc::SYS_statx, "statx", call_kind::PATH_1),
    (libc::SYS_faccessat, "faccessat", call_kind::PATH_1),
    (libc::SYS_readlinkat, "readlinkat", call_kind::PATH_1),
    (libc::SYS_mkdirat, "mkdirat", call_kind::PATH_1),
    (libc::SYS_unlinkat, "unlinkat", call_kind::PATH_1),
    (libc::SYS_connect, "connect", call_kind::CONNECT),
    (libc::SYS_futex, "futex", call_kind::IDLE),
    (libc::SYS_epoll_pwait, "epoll_pwait", call_kind::IDLE),
    (libc::SYS_nanosleep, "nanosleep", call_kind::IDLE),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", call_kind::IDLE),
    (libc::SYS_sched_yield, "sched_yield", call_kind::IDLE),
    (libc::SYS_read, "read", call_kind::DESCRIPTOR),
    (libc::SYS_pread64, "pread64", call_kind::DESCRIPTOR),
    (libc::SYS_write, "write", call_kind::DESCRIPTOR),
    (libc::SYS_ppoll, "ppoll", call_kind::DESCRIPTOR),
    (libc::SYS_pselect6, "pselect6", call_kind::DESCRIPTOR),
    (libc::SYS_recvfrom, "recvfrom", call_kind::DESCRIPTOR),
    (libc::SYS_recvmsg, "recvmsg", call_kind::DESCRIPTOR),
    (libc::SYS_sendto, "sendto", call_kind::DESCRIPTOR),
    (libc::SYS_accept4, "accept4", call_kind::DESCRIPTOR),
    (libc::SYS_fsync, "fsync", call_kind::DESCRIPTOR),
    (libc::SYS_flock, "flock", call_kind::DESCRIPTOR),
    (libc::SYS_wait4, "wait4", call_kind::DESCRIPTOR),
    (libc::SYS_readv, "readv", call_kind::DESCRIPTOR),
    (libc::SYS_writev, "writev", call_kind::DESCRIPTOR),
    (libc::SYS_pwrite64, "pwrite64", call_kind::DESCRIPTOR),
    (libc::SYS_getdents64, "getdents64", call_kind::DESCRIPTOR),
    (libc::SYS_fcntl, "fcntl", call_kind::DESCRIPTOR),
    (libc::SYS_ioctl, "ioctl", call_kind::DESCRIPTOR),
    (libc::SYS_sendmsg, "sendmsg", call_kind::DESCRIPTOR),
    (libc::SYS_accept, "accept", call_kind::DESCRIPTOR),
    (libc::SYS_fdatasync, "fdatasync", call_kind::DESCRIPTOR),
    (libc::SYS_waitid, "waitid", call_kind::DESCRIPTOR),
    (
        libc::SYS_rt_sigtimedwait,
        "rt_sigtimedwait",
        call_kind::DESCRIPTOR,
    ),
    (libc::SYS_getrandom, "getrandom", call_kind::DESCRIPTOR),
    (libc::SYS_clone, "clone", call_kind::DESCRIPTOR),
    (libc::SYS_mount, "mount", call_kind::PATH_1),
    (libc::SYS_execve, "execve", call_kind::PATH_0),
];

#[cfg(target_arch = "x86_64")]
const LEGACY: &[(libc::c_long, &str, u32)] = &[
    (libc::SYS_open, "open", call_kind::OPEN_0),
    (libc::SYS_stat, "stat", call_kind::PATH_0),
    (libc::SYS_lstat, "lstat", call_kind::PATH_0),
    (libc::SYS_access, "access", call_kind::PATH_0),
    (libc::SYS_readlink, "readlink", call_kind::PATH_0),
    (libc::SYS_poll, "poll", call_kind::DESCRIPTOR),
    (libc::SYS_select, "select", call_kind::DESCRIPTOR),
    (libc::SYS_epoll_wait, "epoll_wait", call_kind::IDLE),
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[(libc::c_long, &str, u32)] = &[];

/// (number, [`call_kind`]) of the calls, for the kernel side.
pub fn kinds() -> impl Iterator<Item = (u32, u32)> {
    let all = CALLS.iter().chain(LEGACY);
    all.filter_map(|(number, _, kind)| Some((u32::try_from(*number).ok()?, *kind)))
}

/// A system call's name; `system call N` for those that are not in the table.
pub fn name(number: u32) -> String {
    CALLS
        .iter()
        .chain(LEGACY)
        .find(|(n, _, _)| u32::try_from(*n) == Ok(number))
        .map_or_else(
            || format!("system call {number}"),
            |(_, name, _)| (*name).to_owned(),
        )
}

/// Whether the first argument of a call is a file descriptor that is worth naming.
pub fn works_on_descriptor(number: u32) -> bool {
    let named = CALLS
        .iter()
        .chain(LEGACY)
        .find(|(n, _, _)| u32::try_from(*n) == Ok(number));
    const OTHERS: [&str; 7] = [
        "ppoll",
        "poll",
        "wait4",
        "waitid",
        "clone",
        "getrandom",
        "rt_sigtimedwait",
    ];
    named.is_some_and(|(_, name, kind)| *kind == call_kind::DESCRIPTOR && !OTHERS.contains(name))
}

/// The text of an event: a path, or an address as it is usually written.
pub fn text(kind: u32, bytes: &[u8]) -> Option<String> {
    match kind {
        call_kind::PATH_0 | call_kind::PATH_1 | call_kind::OPEN_0 | call_kind::OPEN_1 => {
            let path = bytes
                .split(|byte| *byte == 0)
                .next()
                .filter(|path| !path.is_empty())?;
            Some(String::from_utf8_lossy(path).into_owned())
        }
        call_kind::CONNECT => address(bytes),
        _ => None,
    }
}

/// Formats a `sockaddr` (include/linux/socket.h, in.h, in6.h, un.h).
fn address(bytes: &[u8]) -> Option<String> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(format!("{}:{}", Ipv4Addr::from(ip), port()?))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(format!("[{}]:{}", Ipv6Addr::from(ip), port()?))
        }
        libc::AF_UNIX => {
            let name = bytes.get(2..)?;
            let path = name.split(|byte| *byte == 0).next().unwrap_or_default();
            (!path.is_empty()).then(|| String::from_utf8_lossy(path).into_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_people_do() {
        let v4 = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0];
        assert_eq!(text(call_kind::CONNECT, &v4).as_deref(), Some("127.0.0.1:8080"));
        let mut v6 = vec![10, 0, 0, 53, 0, 0, 0, 0];
        v6.extend([0; 15]);
        v6.push(1);
        assert_eq!(text(call_kind::CONNECT, &v6).as_deref(), Some("[::1]:53"));
        assert_eq!(
            text(call_kind::CONNECT, b"\x01\x00/run/nscd\0\0").as_deref(),
            Some("/run/nscd")
        );
        assert_eq!(text(call_kind::CONNECT, &[2]), None);
        assert_eq!(
            text(call_kind::PATH_1, b"/etc/passwd\0\0").as_deref(),
            Some("/etc/passwd")
        );
        assert_eq!(text(call_kind::PATH_0, &[0; 4]), None);
    }

    #[test]
    fn every_call_fits_the_kernels_table() {
        assert!(kinds().count() <= tracer_ebpf::start::MAX_CALL_KINDS as usize);
        assert_eq!(name(u32::try_from(libc::SYS_connect).unwrap()), "connect");
        assert_eq!(name(9_999), "system call 9999");
    }
}
