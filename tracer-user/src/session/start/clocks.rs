//! Everything that a capture of starts waits for.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use crate::error::{Error, Result};

/// How often the kernel's ring is looked at. Nothing in it wakes us: a start would pay for that.
const TICK: Duration = Duration::from_millis(50);
/// How long a command may take to end behind `main.main` and still be printed only then.
const SETTLED: Duration = Duration::from_millis(500);

/// Signals that would stop us. They do (a stop of the terminal stops the command and us alike), unless others wait
/// for our answers.
const STOPS: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// Signals that would end us.
const SIGNALS: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A signal; `sent` by a process to us alone, else by the terminal to everybody.
    Signal {
        /// Its number.
        number: i32,
        /// By a process.
        sent: bool,
    },
    /// A signal that is to stop us.
    Stop {
        /// Its number.
        number: i32,
        /// As of [`Self::Signal`].
        sent: bool,
    },
    /// The command has ended.
    CommandEnded,
    /// It is time to look into the ring.
    Tick,
    /// An interval is over.
    Interval,
    /// [`Clocks::settle`] was so long ago.
    Settled,
    /// The duration is over.
    Duration,
}

/// The clocks, the signals and the descriptors.
pub struct Clocks {
    signals: AsyncFd<SignalFd>,
    tick: Interval,
    command: Option<AsyncFd<OwnedFd>>,
    period: Option<Duration>,
    interval: Option<Interval>,
    duration: Option<Duration>,
    end: Option<Instant>,
    settled: Option<Instant>,
}

impl Clocks {
    /// Takes over the signals, with `stops` also those that stop. To be called before there are other threads. The
    /// second value is the mask that was in force before, which a command is to have.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn new(duration: Option<Duration>, period: Option<Duration>, stops: bool) -> Result<(Self, SigSet)> {
        let failed = |e: io::Error| Error::failed(format!("signals cannot be waited for: {e}"));
        let stops = STOPS.into_iter().filter(|_| stops);
        let ours: SigSet = SIGNALS.into_iter().chain(stops).collect();
        let before = SigSet::thread_get_mask().map_err(|e| failed(e.into()))?;
        ours.thread_block().map_err(|e| failed(e.into()))?;
        let signals = SignalFd::with_flags(&ours, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|e| failed(e.into()))?;
        let clocks = Self {
            signals: watch(signals).map_err(failed)?,
            tick: every(TICK),
            command: None,
            period,
            interval: None,
            duration,
            end: None,
            settled: None,
        };
        Ok((clocks, before))
    }

    /// What becomes readable when the command has ended.
    ///
    /// # Errors
    /// The event loop does not take it.
    pub fn watch_command(&mut self, pidfd: OwnedFd) -> io::Result<()> {
        self.command = Some(watch(pidfd)?);
        Ok(())
    }

    /// The duration and the intervals count from here, unless they do already.
    pub fn open_window(&mut self) {
        if self.end.is_none() {
            self.end = self.duration.take().map(|duration| Instant::now() + duration);
        }
        if self.interval.is_none() {
            self.interval = self.period.map(every);
        }
    }

    /// Wakes some time from now.
    pub fn settle(&mut self) {
        self.settled = Some(Instant::now() + SETTLED);
    }

    /// What comes next.
    pub async fn next(&mut self) -> Woken {
        let (end, settled) = (self.end, self.settled);
        tokio::select! {
            biased;
            signal = next_signal(&mut self.signals) => signal,
            () = ready(&mut self.command) => { self.command = None; Woken::CommandEnded }
            () = until(end) => { self.end = None; Woken::Duration }
            () = until(settled) => { self.settled = None; Woken::Settled }
            () = tick_of(&mut self.interval) => Woken::Interval,
            _ = self.tick.tick() => Woken::Tick,
        }
    }
}

async fn next_signal(signals: &mut AsyncFd<SignalFd>) -> Woken {
    loop {
        let Ok(mut guard) = signals.readable_mut().await else {
            return std::future::pending().await;
        };
        match guard.get_inner_mut().read_signal() {
            Ok(Some(signal)) => {
                let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
                // SI_USER, SI_QUEUE and SI_TKILL are not above 0; the terminal's are the kernel's.
                let sent = signal.ssi_code <= 0;
                return match STOPS.iter().any(|stop| *stop as i32 == number) {
                    true => Woken::Stop { number, sent },
                    false => Woken::Signal { number, sent },
                };
            }
            _ => guard.clear_ready(),
        }
    }
}

/// Lets the event loop wait for a descriptor.
#[allow(
    deprecated,
    reason = "the successor is unsafe to call; what owns its descriptor keeps it open"
)]
fn watch<T: AsRawFd>(fd: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

async fn ready(fd: &mut Option<AsyncFd<OwnedFd>>) {
    match fd {
        Some(fd) => {
            if let Ok(mut guard) = fd.readable().await {
                guard.clear_ready();
            }
        }
        None => std::future::pending().await,
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

async fn tick_of(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
