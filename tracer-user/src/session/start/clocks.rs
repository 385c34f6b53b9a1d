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
    time::{Instant, Interval},
};

use crate::{
    error::{Error, Result},
    session::{
        signals::{self, Interrupts, Signals},
        timers::{every, tick_of, until},
    },
};

/// How often the kernel's ring is looked at. Nothing in it wakes us: a start would pay for that.
const TICK: Duration = Duration::from_millis(50);
/// How long a command may take to end behind `main.main` and still be printed only then.
const SETTLED: Duration = Duration::from_millis(500);

/// Signals that would stop us. They do (a stop of the terminal stops the command and us alike), unless others wait
/// for our answers.
const STOPS: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// Signals that would end us, too, but mean something else to many commands.
const OTHERS: [i32; 2] = [libc::SIGUSR1, libc::SIGUSR2];

/// Signals within this time of the first are the same: many a parent passes on what the terminal has sent already.
const THE_SAME: Duration = Duration::from_secs(1);
/// How long a command may take to end behind a second one.
const LET_GO: Duration = Duration::from_secs(2);

/// Whose business signals are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// Ours: the first ends the capture, the second the process.
    ForOurselves,
    /// That of a command of ours, which they are passed on to.
    ForCommand {
        /// Also those that stop, which then have to be carried out by us.
        stops: bool,
    },
}

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
    /// A signal to us wants the capture to end.
    Interrupted,
    /// A command of ours has not ended behind a second signal.
    Deaf {
        /// Its number.
        number: i32,
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
    signals: Source,
    /// When the first signal came that wants us, or a command of ours, to end.
    first: Option<Instant>,
    /// When a command that gets another one is not waited for any longer, and that signal.
    deaf: Option<(Instant, i32)>,
    tick: Interval,
    command: Option<AsyncFd<OwnedFd>>,
    period: Option<Duration>,
    interval: Option<Interval>,
    duration: Option<Duration>,
    end: Option<Instant>,
    settled: Option<Instant>,
}

/// Where signals come from.
enum Source {
    /// Handlers.
    Ours(Signals),
    /// A descriptor, which also says who has sent them.
    Commands(AsyncFd<SignalFd>),
}

impl Clocks {
    /// Takes over the signals. To be called before there are other threads that get any. The second value is the mask
    /// that was in force before, which a command is to have.
    ///
    /// # Errors
    /// No more descriptors.
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
                let numbers = signals::taken().chain(OTHERS);
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
            deaf: None,
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

    /// A command of ours got a signal that wants it to end. Who sends another one no longer waits for a command that
    /// does not; but a process that sends SIGHUP may only want it to read its settings anew.
    pub fn passed_on(&mut self, number: i32, sent: bool) {
        let now = Instant::now();
        let first = *self.first.get_or_insert(now);
        if now.duration_since(first) >= THE_SAME && !(sent && number == libc::SIGHUP) {
            self.deaf.get_or_insert((now + LET_GO, number));
        }
    }

    /// What comes next.
    pub async fn next(&mut self) -> Woken {
        let (end, settled, deaf) = (self.end, self.settled, self.deaf);
        tokio::select! {
            biased;
            signal = next_of(&mut self.signals) => signal,
            () = ready(&mut self.command) => { self.command = None; Woken::CommandEnded }
            () = until(deaf.map(|(at, _)| at)) => {
                self.deaf = None;
                Woken::Deaf { number: deaf.map_or(libc::SIGTERM, |(_, number)| number) }
            }
            () = until(end) => { self.end = None; Woken::Duration }
            () = until(settled) => { self.settled = None; Woken::Settled }
            () = tick_of(&mut self.interval) => Woken::Interval,
            _ = self.tick.tick() => Woken::Tick,
        }
    }
}

impl Interrupts for Clocks {
    fn have_come(&self) -> bool {
        match &self.signals {
            Source::Ours(signals) => signals.have_come(),
            Source::Commands(_) => self.first.is_some(),
        }
    }

    async fn next(&mut self) {
        loop {
            match next_of(&mut self.signals).await {
                Woken::Interrupted => break,
                Woken::Signal { number, .. } if signals::ENDING.contains(&number) => break,
                // Nothing is left that these would be for.
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
