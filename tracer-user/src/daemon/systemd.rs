//! Talks to the service manager (sd_notify), and takes over its socket. Without a service manager it does nothing.

use std::{
    io,
    net::TcpListener,
    os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, sockopt};
use sd_notify::NotifyState;

use crate::error::{Error, Result};

/// How many messages may wait to be sent.
const MAX_QUEUED: usize = 256;

static NOTIFIER: OnceLock<io::Result<mpsc::SyncSender<String>>> = OnceLock::new();

/// Reports that the daemon serves.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports that the configuration is being reloaded; [`ready`] is to follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// Reports that the daemon is stopping.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Reports that the loop still turns.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be called: three times in the time after which the daemon counts as hung.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|timeout| timeout / 3)
}

/// Sends messages from a thread of its own. A manager that does not read must not stop the daemon, nor one that reads
/// late hold it up: its socket holds ten messages (`net.unix.max_dgram_qlen`), and a thread that sends one more sleeps.
fn notify(what: &[NotifyState<'_>]) {
    let lines: Vec<String> = what.iter().map(ToString::to_string).collect();
    let notifier = NOTIFIER.get_or_init(|| {
        let (notifier, queued) = mpsc::sync_channel::<String>(MAX_QUEUED);
        let spawned = thread::Builder::new()
            .name("sd_notify".to_owned())
            .spawn(move || {
                for lines in queued {
                    if let Err(e) = sd_notify::notify(&[NotifyState::Custom(&lines)]) {
                        log::debug!("the service manager was not notified: {e}");
                    }
                }
            });
        spawned.map(|_| notifier)
    });
    let sent = match notifier {
        Ok(notifier) => notifier.try_send(lines.join("\n")).map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    if let Err(e) = sent {
        log::debug!("the service manager was not notified: {e}");
    }
}

/// The socket to serve on, where one was handed over (`LISTEN_FDS`).
///
/// # Errors
/// What was handed over is not a listening TCP socket.
pub fn listener() -> Result<Option<TcpListener>> {
    let refuse = |what: String| {
        Error::failed(format!(
            "the socket that was handed over (LISTEN_FDS) cannot be used: {what}; it must be one TCP socket (in \
             systemd, one ListenStream= with an address and a port)"
        ))
    };
    let mut fds = sd_notify::listen_fds().map_err(|e| refuse(e.to_string()))?;
    let Some(fd) = fds.next() else { return Ok(None) };
    if fds.next().is_some() {
        return Err(refuse("there are several".to_owned()));
    }
    let fd = handed_over(fd).map_err(|e| refuse(e.to_string()))?;
    let is_tcp = sockopt::socket_acceptconn(&fd).is_ok_and(|listens| listens)
        && sockopt::socket_type(&fd) == Ok(SocketType::STREAM)
        && matches!(
            sockopt::socket_domain(&fd),
            Ok(AddressFamily::INET | AddressFamily::INET6)
        );
    if !is_tcp {
        return Err(refuse("it is another kind, or does not listen".to_owned()));
    }
    Ok(Some(TcpListener::from(fd)))
}

/// Takes a descriptor that our parent has opened for us.
fn handed_over(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only asks whether the number is open; it is borrowed for this call.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) })?;
    // SAFETY: it is open, and by the protocol (sd_listen_fds(3)) ours alone: nothing else in this process knows it,
    // and it is asked for once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
