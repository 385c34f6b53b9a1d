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
    process::text_of,
};

/// A signal within this time after another one counts as the same: timeout(1) and others send it both to us and to our
/// process group.
pub(super) const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Signals by which a user, a service manager or a terminal that hangs up asks us to end.
pub const ENDING: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];

/// A source of signals that ask us to end.
pub trait Interrupts {
    /// Whether a signal has come so far.
    fn received_any(&self) -> bool;
    /// Waits for the next signal.
    async fn next(&mut self);
}

/// The signals of [`ENDING`], from handlers of our own or relayed by whoever handles them.
#[derive(Debug, Default)]
pub struct Signals {
    streams: Vec<Signal>,
    relay: Arc<Notify>,
    received_any: bool,
}

impl Signals {
    /// Installs handlers. The first signal is reported; the second ends the process at once, even while it waits for
    /// the kernel to detach; the kernel then removes what is attached.
    ///
    /// # Errors
    /// A handler could not be installed.
    pub fn install() -> Result<Self> {
        let failed = |e| Error::failed(format!("could not install a handler for signals: {e}"));
        let first_ns = Arc::new(AtomicU64::new(0));
        let mut signals = Self::default();
        for number in not_ignored() {
            exit_on_second(number, Arc::clone(&first_ns)).map_err(failed)?;
            let stream = signal(SignalKind::from_raw(number)).map_err(failed)?;
            signals.streams.push(stream);
        }
        Ok(signals)
    }

    /// Returns signals without handlers: whoever handles them notifies `relay` when one is meant for us.
    pub fn relayed(relay: Arc<Notify>) -> Self {
        Self {
            relay,
            ..Self::default()
        }
    }
}

impl Interrupts for Signals {
    fn received_any(&self) -> bool {
        self.received_any
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
        self.received_any = true;
    }
}

/// Installs a handler that ends the process at once if a signal has come before. `first_ns` is when the first came
/// (CLOCK_MONOTONIC, 0: not yet); one within [`SAME_SIGNAL`] of it does not count.
fn exit_on_second(number: i32, first_ns: Arc<AtomicU64>) -> io::Result<()> {
    // Not for the first time in the handler: that reads /proc.
    let _ = now_ns();
    let handler = move || {
        let now_ns = now_ns();
        let first = first_ns.compare_exchange(0, now_ns, Ordering::SeqCst, Ordering::SeqCst);
        if first.is_err_and(|first| now_ns.saturating_sub(first) >= SAME_SIGNAL.as_nanos() as u64) {
            // SAFETY: ends the process, as a handler may.
            unsafe { libc::_exit(128 + number) };
        }
    };
    // SAFETY: the handler reads a clock and an atomic, and may end the process: all of it is async-signal-safe.
    unsafe { low_level::register(number, handler) }.map(drop)
}

/// Returns the signals of [`ENDING`] that we are not to ignore: under nohup(1), SIGHUP stays ignored.
pub fn not_ignored() -> impl Iterator<Item = i32> {
    let ignored = ignored().unwrap_or(0);
    ENDING
        .into_iter()
        .filter(move |number| *number != SIGHUP || ignored >> (number - 1) & 1 == 0)
}

/// Returns the set of signals that were ignored when we were started.
fn ignored() -> Option<u64> {
    let status = text_of("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}
