//! Signals that end a capture.

use std::sync::{Arc, atomic::AtomicBool};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

use crate::error::{Error, Result};

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
        let seen = Arc::new(AtomicBool::new(false));
        let mut signals = Self::default();
        for number in taken() {
            // The order matters: the first signal finds the flag unset, and sets it.
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&seen))
                .and_then(|_| flag::register(number, Arc::clone(&seen)))
                .map_err(failed)?;
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
