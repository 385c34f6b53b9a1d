//! What the service manager is told, and what it hands over. Without one, nothing of this does anything.

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

/// Messages that wait to be told at most.
const MOST_UNTOLD: usize = 256;

static TELLER: OnceLock<io::Result<mpsc::SyncSender<String>>> = OnceLock::new();

/// Tells it that we serve.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells it that the configuration is read anew; [`ready`] is to follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Tells it that we end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells it that the loop still turns.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be told: thrice in the time after which we are taken for hung.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|timeout| timeout / 3)
}

/// A manager that does not listen is no reason to stop, and one that listens late no reason to wait: its socket holds
/// ten messages (`net.unix.max_dgram_qlen`), and whoever sends one more sleeps. So a thread of its own tells it.
fn tell(what: &[NotifyState<'_>]) {
    let lines: Vec<String> = what.iter().map(ToString::to_string).collect();
    let teller = TELLER.get_or_init(|| {
        let (teller, untold) = mpsc::sync_channel::<String>(MOST_UNTOLD);
        let spawned = thread::Builder::new()
            .name("sd_notify".to_owned())
            .spawn(move || {
                for lines in untold {
                    if let Err(e) = sd_notify::notify(&[NotifyState::Custom(&lines)]) {
                        log::debug!("the service manager was not told: {e}");
                    }
                }
            });
        spawned.map(|_| teller)
    });
    let told = match teller {
        Ok(teller) => teller.try_send(lines.join("\n")).map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    if let Err(e) = told {
        log::debug!("the service manager was not told: {e}");
    }
}

/// The socket to serve on, where one was handed over (`LISTEN_FDS`).
///
/// # Errors
/// What was handed over is no listening TCP socket.
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
