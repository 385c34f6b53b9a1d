//! The clocks, signals and descriptors that a capture of starts waits for.

use std::{io, os::fd::OwnedFd, time::Duration};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, Interval},
};

use crate::{
    error::{Error, Result},
    session::{
        descriptors::watch,
        signals::{self, Interrupts, Signals},
        timers::{every, tick_of, until},
    },
};

/// How often the kernel's ring is read. It does not wake us: the processes that start would pay for that.
const TICK: Duration = Duration::from_millis(50);
/// How long to wait for a command to end after it has reached `main.main`, before its start is printed.
const SETTLED: Duration = Duration::from_millis(500);

/// Signals that stop a process. They are left alone (the terminal stops the command and us alike), unless processes
/// wait for our answers.
const STOPS: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// Signals that would end us, but mean something else to many commands.
const OTHERS: [i32; 2] = [libc::SIGUSR1, libc::SIGUSR2];

/// Signals within this time of the first count as the same: many a parent forwards what the terminal has sent already.
const SAME_SIGNAL: Duration = Duration::from_secs(1);
/// How long a command may take to end after a second one.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);

/// Who signals are meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// Us: the first ends the capture, the second the process.
    ForOurselves,
    /// Our command, to which they are forwarded.
    ForCommand {
        /// Whether to take [`STOPS`], too, which we then have to carry out.
        stops: bool,
    },
}

/// What ended the waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A signal for our command.
    Signal {
        /// Its number.
        number: i32,
        /// Whether a process sent it to us alone, rather than the terminal to everybody.
        sent: bool,
    },
    /// A signal for us that ends the capture.
    Interrupted,
    /// Our command has not ended after a second signal.
    Unresponsive {
        /// The signal's number.
        number: i32,
    },
    /// A signal that is to stop us.
    Stop {
        /// Its number.
        number: i32,
        /// As in [`Self::Signal`].
        sent: bool,
    },
    /// The command has ended.
    CommandEnded,
    /// It is time to read the ring.
    Tick,
    /// An interval is over.
    Interval,
    /// [`Clocks::settle`] was called a while ago.
    Settled,
    /// The duration is over.
    Duration,
}

/// The clocks, signals and descriptors of a capture of starts.
pub struct Clocks {
    signals: Source,
    /// When the first signal came that asks us, or our command, to end.
    first: Option<Instant>,
    /// When to give up waiting for a command that got another one, and the number of that.
    give_up: Option<(Instant, i32)>,
    tick: Interval,
    command: Option<AsyncFd<OwnedFd>>,
    period: Option<Duration>,
    interval: Option<Interval>,
    duration: Option<Duration>,
    end: Option<Instant>,
    settled: Option<Instant>,
}

/// A source of signals.
enum Source {
    /// Handlers, for signals to us.
    Ours(Signals),
    /// A signalfd(2), which also says who has sent a signal.
    Commands(AsyncFd<SignalFd>),
}

impl Clocks {
    /// Takes over the signals. To be called before there are other threads, which would get some of them. Also returns
    /// the signal mask that was in force before, which a command is to have.
    ///
    /// # Errors
    /// Signals cannot be handled, since there are no more descriptors.
    pub fn new(
        duration: Option<Duration>,
        period: Option<Duration>,
        listening: Listening,
    ) -> Result<(Self, SigSet)> {
        let failed = |e: io::Error| Error::failed(format!("signals cannot be waited for: {e}"));
        let before = SigSet::thread_get_mask().map_err(|e| failed(e.into()))?;
        let signals = match listening {
            Listening::ForOurselves => Source::Ours(Signals::install()?),
            Listening::ForCommand { stops } => {
                let stops = STOPS.into_iter().filter(|_| stops);
                let numbers = signals::not_ignored().chain(OTHERS);
                let taken = numbers.filter_map(|number| Signal::try_from(number).ok());
                let taken: SigSet = taken.chain(stops).collect();
                taken.thread_block().map_err(|e| failed(e.into()))?;
                let signals = SignalFd::with_flags(&taken, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
                    .map_err(|e| failed(e.into()))?;
                Source::Commands(watch(signals).map_err(failed)?)
            }
        };
        let clocks = Self {
            signals,
            first: None,
            give_up: None,
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

    /// Waits for the end of the command, too, when `pidfd` becomes readable.
    ///
    /// # Errors
    /// The event loop refuses the descriptor.
    pub fn watch_command(&mut self, pidfd: OwnedFd) -> io::Result<()> {
        self.command = Some(watch(pidfd)?);
        Ok(())
    }

    /// Starts the clocks of the duration and the intervals, unless they are running.
    pub fn open_window(&mut self) {
        if self.end.is_none() {
            self.end = self.duration.take().map(|duration| Instant::now() + duration);
        }
        if self.interval.is_none() {
            self.interval = self.period.map(every);
        }
    }

    /// Starts the clock of [`Woken::Settled`].
    pub fn settle(&mut self) {
        self.settled = Some(Instant::now() + SETTLED);
    }

    /// Notes that our command got a signal that asks it to end. After a second one we give up on a command that
    /// does not; but a process that sends SIGHUP may only want it to reload its settings.
    pub fn signal_forwarded(&mut self, number: i32, sent: bool) {
        let now = Instant::now();
        let first = *self.first.get_or_insert(now);
        if now.duration_since(first) >= SAME_SIGNAL && !(sent && number == libc::SIGHUP) {
            self.give_up.get_or_insert((now + GIVE_UP_AFTER, number));
        }
    }

    /// Waits for whatever comes next.
    pub async fn next(&mut self) -> Woken {
        let (end, settled, give_up) = (self.end, self.settled, self.give_up);
        tokio::select! {
            biased;
            signal = next_of(&mut self.signals) => signal,
            () = ready(&mut self.command) => { self.command = None; Woken::CommandEnded }
            () = until(give_up.map(|(at, _)| at)) => {
                self.give_up = None;
                Woken::Unresponsive { number: give_up.map_or(libc::SIGTERM, |(_, number)| number) }
            }
            () = until(end) => { self.end = None; Woken::Duration }
            () = until(settled) => { self.settled = None; Woken::Settled }
            () = tick_of(&mut self.interval) => Woken::Interval,
            _ = self.tick.tick() => Woken::Tick,
        }
    }
}

impl Interrupts for Clocks {
    fn received_any(&self) -> bool {
        match &self.signals {
            Source::Ours(signals) => signals.received_any(),
            Source::Commands(_) => self.first.is_some(),
        }
    }

    async fn next(&mut self) {
        loop {
            match next_of(&mut self.signals).await {
                Woken::Interrupted => break,
                Woken::Signal { number, .. } if signals::ENDING.contains(&number) => break,
                // The command that others are for has ended.
                _ => {}
            }
        }
        self.first.get_or_insert(Instant::now());
    }
}

async fn next_of(source: &mut Source) -> Woken {
    match source {
        Source::Ours(signals) => {
            signals.next().await;
            Woken::Interrupted
        }
        Source::Commands(signals) => next_signal(signals).await,
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
