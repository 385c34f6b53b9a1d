//! Why runnable goroutines do not run: at each instant the state of the world, the Ps and their threads says what keeps them
//! ([`classes`]), a ledger adds that up over time ([`ledger`]), and each wait takes the difference of two readings of it.
//!
//! The causes are a function of the state alone, so they are advanced before an event is applied, with what held until then,
//! and [`Causes::settle`] takes in what has changed after it. While no goroutine is runnable nothing is added: there is
//! nobody to wait.

mod classes;
mod ledger;
mod picked;
mod slowest;
mod stops;
mod throttle;

use std::collections::HashMap;

pub use slowest::{LongWait, LongWaits};
pub use stops::Stops;

use self::classes::Classes;
use self::ledger::{Amounts, ByCause, Readings, UNIT};
use self::picked::Picked;
use self::throttle::Throttle;
use super::cause::Cause;
use super::change::Change;
use super::class::Class;
use super::counts::Counts;
use super::explained::{CauseReport, CausesReport, Peak, Picture};
use super::goroutine::Goroutine;
use super::thread::ThreadState;
use crate::stream::{HistogramDelta, HistogramKey, Origin};

/// What holds for the whole process at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Whether every state is known.
    pub known: bool,
    /// Whether the world is being stopped, stands still, or is being started.
    pub stopped: bool,
    /// GOMAXPROCS; 0 while it is not known.
    pub gomaxprocs: u64,
}

/// The causes of the whole capture.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    setting: Setting,
    classes: Classes,
    /// Threads that could run and have no CPU.
    waiting: u32,
    ledger: Amounts,
    rates: Amounts,
    /// Whether `rates` have to be computed anew.
    stale: bool,
    throttle: Throttle,
    /// Idle Ps that were promised to Ms, of which it is not known which.
    promised: u64,
    readings: Readings,
    /// By slot. None of them has yielded: that cause comes first.
    picked: HashMap<u32, Picked>,
    /// Nanoseconds of waits that are over, by cause.
    total_ns: ByCause,
    waits: [Option<Box<Counts>>; Cause::COUNT],
    /// When the window opened, CLOCK_MONOTONIC, and the ledger then; 0 and nothing where everything counts.
    opened_ns: u64,
    opened: Amounts,
    /// ∫ (runnable goroutines) dt, in nanoseconds.
    runnable_ns: u128,
    some_ns: u64,
    before_known_ns: u64,
    was_known: bool,
    /// ∫ (runnable goroutines ÷ Ps) dt, a nanosecond being [`UNIT`].
    held: u128,
    peak: Peak,
    /// Runnable goroutines that had been woken.
    woken: u64,
    /// Runnable goroutines that had yielded of their own will.
    yielded: u64,
    /// Waits by what the goroutine had waited for before, by the number of the reason.
    after: Vec<Option<Box<Counts>>>,
    /// The longest waits.
    pub slowest: LongWaits,
    /// Stops of the world.
    pub stops: Stops,
}

impl Causes {
    /// Advances to `now_ns` by `ns`, in which `runnable` goroutines were runnable and nothing changed.
    #[inline]
    pub fn advance(&mut self, now_ns: u64, ns: u64, runnable: u64) {
        if ns == 0 || runnable == 0 {
            return;
        }
        if runnable > self.peak.runnable {
            self.peak = Peak {
                runnable,
                woken: self.woken,
                at_ns: now_ns,
            };
        }
        if self.stale {
            self.rates = self.rates_now();
            self.stale = false;
        }
        if self.throttle.is_held() {
            self.throttle.add(&self.rates, ns);
        } else {
            self.ledger.add_times(&self.rates, ns);
        }
        let waited_ns = u128::from(runnable) * u128::from(ns);
        self.runnable_ns += waited_ns;
        self.some_ns = self.some_ns.saturating_add(ns);
        if !self.was_known {
            // Where the cause is the goroutine's own, it is known.
            let unknown = runnable.saturating_sub(self.yielded + self.picked.len() as u64);
            self.before_known_ns = self.before_known_ns.saturating_add(unknown.saturating_mul(ns));
        }
        let each = UNIT.checked_div(self.setting.gomaxprocs).unwrap_or(UNIT);
        self.held += waited_ns * u128::from(each);
    }

    /// Opens the window at `now_ns`: what was before does not count.
    pub fn open(&mut self, now_ns: u64) {
        (self.opened_ns, self.opened) = (now_ns, self.ledger);
        self.total_ns = ByCause::default();
        self.waits = Default::default();
        (self.runnable_ns, self.some_ns, self.before_known_ns) = (0, 0, 0);
        (self.peak, self.after) = (Peak::default(), Vec::new());
        self.slowest = LongWaits::default();
        self.stops.forget_ended();
    }

    fn rates_now(&self) -> Amounts {
        match self.setting {
            Setting { known: false, .. } => Amounts::all_of(Cause::Unknown),
            Setting { stopped: true, .. } => Amounts::all_of(Cause::Stw),
            Setting { gomaxprocs, .. } => self.classes.rates(gomaxprocs, self.promised),
        }
    }

    /// Applies that a P is of another class from now on.
    #[inline]
    pub fn change_class(&mut self, from: Class, to: Class) {
        self.classes.change(from, to);
        self.stale = true;
    }

    /// Applies that a thread's state changes.
    #[inline]
    pub fn change_thread(&mut self, from: ThreadState, to: ThreadState) {
        if from == ThreadState::Waiting {
            self.waiting = self.waiting.saturating_sub(1);
        }
        if to == ThreadState::Waiting {
            self.waiting += 1;
        }
    }

    /// Takes in what holds from `now_ns` on, once an event has been applied.
    #[inline]
    pub fn settle(&mut self, setting: Setting, now_ns: u64) {
        if setting != self.setting {
            self.setting = setting;
            self.was_known |= setting.known;
            self.stale = true;
        }
        let wanted = self.waiting > 0 || self.classes.of(Class::Unknown) > 0;
        let held = wanted && setting.known && !setting.stopped && self.classes.may_be_held_up();
        self.throttle
            .set_held(held, now_ns, &mut self.ledger, &mut self.readings);
    }

    /// Applies that a thread with a P, of which nothing was known, turns out to have had a CPU until now.
    pub fn record_ran(&mut self) {
        self.throttle.refute();
    }

    /// Forgets what is known of threads and of a stop of the world: something was lost.
    pub fn forget(&mut self) {
        (self.waiting, self.promised) = (0, 0);
        self.stale = true;
        self.stops.forget();
    }

    /// Applies that an M was promised an idle P, any.
    pub fn promise_any(&mut self) {
        self.promised = (self.promised + 1).min(self.classes.idle(self.setting.gomaxprocs));
        self.stale = true;
    }

    /// Applies that an M takes a P that was not promised to it by name.
    pub fn keep_promise(&mut self) {
        if self.promised > 0 {
            self.promised -= 1;
            self.stale = true;
        }
    }

    /// Takes in that the cgroup was throttled for so long before `at_ns`.
    pub fn confirm_throttled(&mut self, at_ns: u64, throttled_ns: u64) {
        self.throttle.confirm(at_ns, throttled_ns);
    }

    /// Keeps a reading for a goroutine that becomes runnable in this way. Returns its number.
    #[inline]
    pub fn read(&mut self, origin: u8) -> u32 {
        self.woken += u64::from(is_woken(origin));
        self.yielded += u64::from(is_yielded(origin));
        let reading = self.readings.keep(self.ledger);
        if self.throttle.is_held() {
            self.throttle.keep(reading);
        }
        reading
    }

    /// Applies that a runnable goroutine was picked, and waits for the thread that it is locked to.
    pub fn pick(&mut self, slot: u32, goroutine: &Goroutine, at_ns: u64) {
        let Some(begin) = self.readings.get(goroutine.reading) else {
            return;
        };
        if is_yielded(goroutine.origin) {
            return;
        }
        let before = self.ledger.since(begin);
        self.picked.insert(slot, Picked { at_ns, before });
    }

    /// Ends the time in Runnable that a change ends, whose reading is this one. Returns its causes, which add up to
    /// `change.spent_ns`.
    #[inline]
    pub fn end(&mut self, change: &Change, reading: u32) -> ByCause {
        self.woken = self.woken.saturating_sub(u64::from(is_woken(change.from_origin)));
        self.yielded = self
            .yielded
            .saturating_sub(u64::from(is_yielded(change.from_origin)));
        self.throttle.take(reading);
        let begin = self.readings.take(reading);
        let by_cause = match begin {
            Some(begin) => self.causes_of(change, &begin),
            None => Amounts::default().to_ns(change.spent_ns),
        };
        let counted = match change.since_ns < self.opened_ns {
            true => self.since_opened(change),
            false => by_cause,
        };
        let exact = change.runnable_ns().is_some();
        let sums = self.total_ns.iter_mut().zip(&mut self.waits);
        for ((sum, waits), ns) in sums.zip(counted).filter(|(_, ns)| *ns > 0) {
            *sum = sum.saturating_add(ns);
            if exact {
                waits.get_or_insert_default().add(ns);
            }
        }
        if exact && change.from_reason != 0 && is_woken(change.from_origin) {
            self.add_after(change.from_reason, change.spent_ns);
        }
        by_cause
    }

    #[inline]
    fn add_after(&mut self, reason: u8, ns: u64) {
        let index = usize::from(reason);
        if self.after.len() <= index {
            self.after.resize(index + 1, None);
        }
        if let Some(counts) = self.after.get_mut(index) {
            counts.get_or_insert_default().add(ns);
        }
    }

    /// Waits by what the goroutine had waited for before, by the number of the reason.
    pub fn after(&self) -> impl Iterator<Item = (u8, HistogramDelta)> {
        (0u8..)
            .zip(&self.after)
            .filter_map(|(reason, counts)| Some((reason, counts.as_ref()?.delta(HistogramKey::All)?)))
    }

    /// The causes of the part of a wait that is in the window, which it began before.
    #[cold]
    fn since_opened(&self, change: &Change) -> ByCause {
        let ns = change.at_ns.saturating_sub(self.opened_ns).min(change.spent_ns);
        match is_yielded(change.from_origin) {
            true => all_of(Cause::Yielded, ns),
            false => self.ledger.since(&self.opened).to_ns(ns),
        }
    }

    #[inline]
    fn causes_of(&mut self, change: &Change, begin: &Amounts) -> ByCause {
        let picked = match self.picked.is_empty() {
            true => None,
            false => self.picked.remove(&change.slot),
        };
        if is_yielded(change.from_origin) {
            return all_of(Cause::Yielded, change.spent_ns);
        }
        let all = self.ledger.since(begin);
        match picked {
            Some(picked) => picked.causes(&all, change.since_ns, change.spent_ns),
            None => all.to_ns(change.spent_ns),
        }
    }

    /// ∫ (runnable goroutines ÷ Ps) dt so far, a nanosecond being 65,536 parts.
    #[inline]
    pub fn held(&self) -> u128 {
        self.held
    }

    /// Ends the stretch in which the Ps are held up, as of `now_ns`: only of a copy, which nothing is applied to any more.
    pub fn finish(&mut self, now_ns: u64) {
        self.throttle.finish(now_ns, &mut self.ledger, &mut self.readings);
    }

    /// The causes of a time in Runnable of `duration_ns` that has not ended.
    pub fn so_far(&self, slot: u32, goroutine: &Goroutine, duration_ns: u64) -> ByCause {
        if is_yielded(goroutine.origin) {
            return all_of(Cause::Yielded, duration_ns);
        }
        let Some(begin) = self.readings.get(goroutine.reading) else {
            return all_of(Cause::Unknown, duration_ns);
        };
        let all = self.ledger.since(begin);
        match self.picked.get(&slot) {
            Some(picked) => picked.causes(&all, goroutine.since_ns, duration_ns),
            None => all.to_ns(duration_ns),
        }
    }

    /// The part of the window that a time in Runnable has that has not ended at `now_ns`, with its causes.
    pub fn so_far_in_window(&self, slot: u32, goroutine: &Goroutine, now_ns: u64) -> ByCause {
        let ns = now_ns.saturating_sub(goroutine.since_ns.max(self.opened_ns));
        if goroutine.since_ns >= self.opened_ns || is_yielded(goroutine.origin) {
            return self.so_far(slot, goroutine, ns);
        }
        self.ledger.since(&self.opened).to_ns(ns)
    }

    /// The time by cause, with that of waits that have not ended.
    pub fn totals(&self, ongoing_ns: ByCause) -> CausesReport {
        let runnable_ns = u64::try_from(self.runnable_ns).unwrap_or(u64::MAX);
        let mut by_cause = Vec::new();
        let all = Cause::ALL
            .into_iter()
            .zip(self.total_ns)
            .zip(ongoing_ns)
            .zip(&self.waits);
        for (((cause, ended_ns), ongoing_ns), waits) in all {
            let total_ns = ended_ns.saturating_add(ongoing_ns);
            if total_ns > 0 {
                by_cause.push(CauseReport {
                    cause,
                    total_ns,
                    ongoing_ns,
                    waits: waits.as_ref().and_then(|waits| waits.delta(HistogramKey::All)),
                });
            }
        }
        let sum_ns: i128 = by_cause.iter().map(|cause| i128::from(cause.total_ns)).sum();
        CausesReport {
            runnable_ns,
            some_ns: self.some_ns,
            peak: self.peak,
            by_cause,
            before_known_ns: self.before_known_ns,
            imbalance_ns: i64::try_from(sum_ns - i128::from(runnable_ns)).unwrap_or(i64::MAX),
            ..CausesReport::default()
        }
    }

    /// What the Ps do now, with so many runnable goroutines.
    pub fn picture(&self, runnable: u64) -> Picture {
        self.classes.picture(runnable, self.setting.gomaxprocs)
    }
}

/// Whether a goroutine that became runnable in this way had waited for something.
pub fn is_woken(origin: u8) -> bool {
    origin == Origin::Unblocked as u8 || origin == Origin::Netpoll as u8
}

/// Whether a goroutine that became runnable in this way had given way of its own will.
fn is_yielded(origin: u8) -> bool {
    origin == Origin::Yielded as u8
}

/// Nanoseconds of [`Causes::held`].
pub fn held_ns(held: u128) -> u64 {
    u64::try_from(held / u128::from(UNIT)).unwrap_or(u64::MAX)
}

fn all_of(cause: Cause, ns: u64) -> ByCause {
    let mut by_cause = ByCause::default();
    if let Some(of_cause) = by_cause.get_mut(cause as usize) {
        *of_cause = ns;
    }
    by_cause
}
