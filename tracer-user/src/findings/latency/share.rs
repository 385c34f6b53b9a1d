//! How much of all waiting one cause has: from every wait in `full`, estimated from samples in `passive` and `sampled`.

use super::Evidence;
use crate::{
    findings::{
        Outcome,
        figures::{self, duration, mean, percent},
    },
    model::{
        estimate::CauseEstimate,
        sched::{Cause, CausesReport},
    },
    plan::Mode,
};

/// The square of the quantile of the normal distribution for an interval of 95 %.
const Z_SQUARED: f64 = 3.84;

/// From where on a cause is a finding: both must be reached, since the share alone says nothing of a program in which
/// hardly anything waits, nor the number alone of one in which nearly everything waits for something else.
#[derive(Clone, Copy)]
pub(super) struct Least {
    /// Its part of all waiting.
    pub(super) share: f64,
    /// Goroutines that wait for it at a time, on average.
    pub(super) at_a_time: f64,
}

/// The part of all waiting that has one cause; voluntary yields are left out on both sides.
pub(super) struct Share {
    share: f64,
    /// The ends of the interval that it is in.
    low: f64,
    high: f64,
    at_a_time: f64,
    /// The ends of the interval that this is in.
    fewest: f64,
    most: f64,
    basis: Basis,
}

/// What a share is computed from.
enum Basis {
    /// Every wait: nanoseconds of the cause, and of all.
    Waits { ns: u64, all_ns: u64 },
    /// So many samples.
    Samples(u64),
}

impl Share {
    /// The share of a cause where it reaches `least`; otherwise the outcome of the rule: it does not, or that is not
    /// known, and with it `what`. From samples it is not known where the interval holds the bound.
    pub(super) fn reaching(
        evidence: &Evidence,
        cause: Cause,
        least: Least,
        what: &str,
    ) -> Result<Self, Outcome> {
        let share = match (evidence.causes, evidence.estimate) {
            (Some(causes), _) => Self::of_waits(causes, cause, evidence),
            (None, Some(estimate)) if estimate.samples > 0 => Self::of_samples(estimate, cause),
            _ => return Err(Outcome::recheck(Mode::Full, what)),
        };
        if share.high < least.share || share.most < least.at_a_time {
            Err(Outcome::Ok)
        } else if share.low < least.share || share.fewest < least.at_a_time {
            Err(Outcome::recheck(
                Mode::Full,
                format!("{what} ({})", share.describe()),
            ))
        } else {
            Ok(share)
        }
    }

    fn of_waits(causes: &CausesReport, cause: Cause, evidence: &Evidence) -> Self {
        let (mut ns, mut all_ns) = (0u64, 0u64);
        for part in causes.by_cause.iter().filter(|part| part.cause != Cause::Yielded) {
            all_ns = all_ns.saturating_add(part.total_ns);
            if part.cause == cause {
                ns = ns.saturating_add(part.total_ns);
            }
        }
        let share = figures::share(ns, all_ns);
        Self {
            share,
            low: share,
            high: share,
            at_a_time: evidence.at_a_time(ns),
            fewest: evidence.at_a_time(ns),
            most: evidence.at_a_time(ns),
            basis: Basis::Waits { ns, all_ns },
        }
    }

    fn of_samples(estimate: &CauseEstimate, cause: Cause) -> Self {
        let part = estimate.by_cause.iter().find(|part| part.cause == cause);
        // What no sample saw is not among the causes. It can have been there all the same, the more the fewer samples
        // there are: the upper end of Wilson's interval.
        let unseen = Z_SQUARED / (estimate.samples as f64 + Z_SQUARED);
        let (share, low, high) = part.map_or((0.0, 0.0, unseen), |part| (part.share, part.low, part.high));
        Self {
            share,
            low,
            high,
            at_a_time: share * estimate.runnable_mean,
            fewest: low * estimate.runnable_mean,
            most: high * estimate.runnable_mean,
            basis: Basis::Samples(estimate.samples),
        }
    }

    /// Whether every wait was seen.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.basis, Basis::Waits { .. })
    }

    /// The figures, as the begin of a sentence.
    pub(super) fn describe(&self) -> String {
        match self.basis {
            Basis::Waits { ns, all_ns } => format!(
                "{} of {} of all waiting to run ({}), {} goroutines at a time",
                duration(ns),
                duration(all_ns),
                percent(self.share),
                mean(self.at_a_time)
            ),
            Basis::Samples(samples) => format!(
                "about {} of all waiting to run ({} to {}, from {samples} samples), {} goroutines at a time",
                percent(self.share),
                percent(self.low),
                percent(self.high),
                mean(self.at_a_time)
            ),
        }
    }
}
