//! Signals that end a capture.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    low_level,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

use crate::{
    clock::now_ns,
    error::{Error, Result},
};

/// A signal that comes so soon behind another one is the same: timeout(1) and others send one to us and to our group.
pub(super) const THE_SAME: Duration = Duration::from_millis(100);

/// Signals by which a user, a service manager or a terminal that goes away wants us to end.
pub const ENDING: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];

/// Says when a signal has come.
pub trait Interrupts {
    /// Whether one has come so far.
    fn have_come(&self) -> bool;
    /// Waits for the next.
    async fn next(&mut self);
}

/// Handlers of these signals, or of what somebody else makes of them.
#[derive(Debug, Default)]
pub struct Signals {
    streams: Vec<Signal>,
    relay: Arc<Notify>,
    have_come: bool,
}

impl Signals {
    /// Takes them over. The first of them is reported; the second ends the process at once, even while it waits for
    /// the kernel to detach; the kernel then removes what is attached.
    ///
    /// # Errors
    /// There can be no handler.
    pub fn install() -> Result<Self> {
        let failed = |e| Error::failed(format!("could not install a handler for signals: {e}"));
        let first_ns = Arc::new(AtomicU64::new(0));
        let mut signals = Self::default();
        for number in taken() {
            end_at_the_second(number, Arc::clone(&first_ns)).map_err(failed)?;
            let stream = signal(SignalKind::from_raw(number)).map_err(failed)?;
            signals.streams.push(stream);
        }
        Ok(signals)
    }

    /// Without handlers: somebody else takes the signals, and notifies when one of them is meant for us.
    pub fn relayed(relay: Arc<Notify>) -> Self {
        Self {
            relay,
            ..Self::default()
        }
    }
}

impl Interrupts for Signals {
    fn have_come(&self) -> bool {
        self.have_come
    }

    async fn next(&mut self) {
        let handled = std::future::poll_fn(|context| {
            let came = |stream: &mut Signal| stream.poll_recv(context).is_ready();
            match self.streams.iter_mut().any(came) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        });
        tokio::select! {
            () = handled => {}
            () = self.relay.notified() => {}
        }
        self.have_come = true;
    }
}

/// Has this signal end the process at once if one has come before; `first_ns` is when that was, CLOCK_MONOTONIC. One
/// that comes right behind the first is not a second one.
fn end_at_the_second(number: i32, first_ns: Arc<AtomicU64>) -> io::Result<()> {
    let handler = move || {
        let now_ns = now_ns();
        let first = first_ns.compare_exchange(0, now_ns, Ordering::SeqCst, Ordering::SeqCst);
        if first.is_err_and(|first| now_ns.saturating_sub(first) >= THE_SAME.as_nanos() as u64) {
            // SAFETY: ends the process, as a handler may.
            unsafe { libc::_exit(128 + number) };
        }
    };
    // SAFETY: the handler reads a clock, and an atomic of ours, and may end the process: all of that a handler may do.
    unsafe { low_level::register(number, handler) }.map(drop)
}

/// Those of [`ENDING`] that are not to be ignored: under nohup a terminal that goes away is none of our business.
pub fn taken() -> impl Iterator<Item = i32> {
    let ignored = ignored().unwrap_or(0);
    ENDING
        .into_iter()
        .filter(move |number| *number != SIGHUP || ignored >> (number - 1) & 1 == 0)
}

/// The signals that we were started with as ignored.
fn ignored() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}
