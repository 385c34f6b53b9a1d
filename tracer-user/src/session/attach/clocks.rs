//! The clocks, the signals and the target's end that a capture waits for.

use std::time::Duration;

use tokio::time::{Instant, Interval};

use super::{Input, cpu, prepare::Prepared};
use crate::{
    plan::Mode,
    session::{
        options::AttachOptions,
        signals::{Interrupts as _, Signals},
        timers::{every, tick_of, until},
    },
};

/// How often the kernel's tables are emptied.
const TICK: Duration = Duration::from_millis(500);
/// [`TICK`] while slow waits are shown as they end.
const TICK_FOR_SLOW: Duration = Duration::from_millis(100);
/// [`TICK`] of `full`, whose ring buffer holds half a second of what a busy program does.
const TICK_FOR_FULL: Duration = Duration::from_millis(5);

/// The clocks and signals that a capture waits for.
pub(super) struct CaptureClocks<'s> {
    tick: Interval,
    measure: Interval,
    period: Option<Duration>,
    interval: Option<Interval>,
    duration: Option<Duration>,
    end: Option<Instant>,
    signals: &'s mut Signals,
}

impl<'s> CaptureClocks<'s> {
    /// Starts the clocks that run from the begin on; those of the window wait for it to open.
    pub fn new(options: &AttachOptions, signals: &'s mut Signals) -> Self {
        let tick = match (options.mode, options.slower) {
            (Some(Mode::Full), _) => TICK_FOR_FULL,
            (_, Some(_)) => TICK_FOR_SLOW,
            (_, None) => TICK,
        };
        Self {
            tick: every(tick),
            measure: every(cpu::EVERY),
            period: options.interval,
            interval: None,
            duration: options.duration,
            end: None,
            signals,
        }
    }

    /// Starts the clocks of the window: its length and its intervals.
    pub fn open_window(&mut self) {
        self.end = self.duration.map(|d| Instant::now() + d);
        self.interval = self.period.map(every);
    }

    /// Waits for the next thing that the capture has to respond to.
    pub async fn next(&mut self, target: &Prepared) -> Input {
        let end = self.end;
        tokio::select! {
            biased;
            () = self.signals.next() => Input::Signal,
            () = target.ended() => Input::TargetExited,
            () = until(end) => { self.end = None; Input::DurationElapsed }
            () = tick_of(&mut self.interval) => Input::IntervalElapsed,
            _ = self.measure.tick() => Input::MeasureDue,
            _ = self.tick.tick() => {
                if target.has_execed() { Input::TargetExeced } else { Input::Tick }
            }
        }
    }
}
