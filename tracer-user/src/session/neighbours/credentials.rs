//! The process at the other end of a Unix socket, and whether it could trace.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
};

use procfs::process::Process;
use rustix::io::Errno;

use crate::{kernel::privilege::Capability, process::status_of};

/// Any of these lets a process trace another user's: read its memory, or probe it.
const TRACING: [Capability; 3] = [Capability::Bpf, Capability::SysAdmin, Capability::SysPtrace];

/// The credentials of a process as the kernel has recorded them: at listen(2) for one that listens, at connect(2) for
/// one that has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its process id in our PID namespace; 0 where it has none there.
    pub pid: u32,
    /// Effective user id.
    uid: u32,
}

impl Credentials {
    /// Returns the credentials of the process at the other end.
    ///
    /// # Errors
    /// The socket is not connected.
    pub fn of_peer(socket: impl AsFd) -> Result<Self, Errno> {
        let found = peer_credentials(socket)?;
        Ok(Self {
            pid: u32::try_from(found.pid).unwrap_or(0),
            uid: found.uid,
        })
    }

    /// Whether the process could trace the target of a capture of ours: it is root's or our own user's, or has a
    /// capability for it. A process that has ended counts as without capabilities, since those are not known any more.
    pub fn could_trace(&self) -> bool {
        self.pid != 0
            && (self.uid == 0 || self.uid == rustix::process::geteuid().as_raw() || self.has_capability())
    }

    /// Whether it has such a capability in our user namespace: in a user namespace of its own, any process has all of
    /// them.
    fn has_capability(&self) -> bool {
        let Ok(status) = i32::try_from(self.pid)
            .map_err(|_| ())
            .and_then(|pid| Process::new(pid).and_then(|it| status_of(&it)).map_err(|_| ()))
        else {
            return false;
        };
        status.euid == self.uid
            && TRACING
                .iter()
                .any(|capability| status.capeff & (1 << *capability as u8) != 0)
            && matches!(
                (user_namespace("self"), user_namespace(&self.pid.to_string())),
                (Ok(ours), Ok(theirs)) if ours == theirs
            )
    }
}

/// Returns device and inode of a process's user namespace.
fn user_namespace(process: &str) -> io::Result<(u64, u64)> {
    let file = fs::metadata(format!("/proc/{process}/ns/user"))?;
    Ok((file.dev(), file.ino()))
}

/// Reads `SO_PEERCRED` (unix(7)). Not by rustix, which cannot represent the process id 0 that the kernel returns for a
/// process of another PID namespace.
fn peer_credentials(socket: impl AsFd) -> Result<libc::ucred, Errno> {
    let mut found = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and `found` is a valid place for the `length` bytes that the kernel writes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(found),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_known() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Credentials::of_peer(&one).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert!(peer.could_trace());
        let unconnected = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(!Credentials::of_peer(&unconnected).is_ok_and(|peer| peer.could_trace()));
    }

    #[test]
    fn another_user_counts_only_with_a_capability() {
        let uid = if rustix::process::geteuid().as_raw() == 65_534 {
            65_533
        } else {
            65_534
        };
        // The process lives and may be root, but the kernel says that somebody else has listened.
        let borrowed = Credentials {
            pid: std::process::id(),
            uid,
        };
        assert!(!borrowed.could_trace());
        let gone = Credentials {
            pid: i32::MAX as u32,
            uid,
        };
        assert!(!gone.could_trace());
        assert!(
            !Credentials { pid: 0, uid: 0 }.could_trace(),
            "of another PID namespace"
        );
    }
}
