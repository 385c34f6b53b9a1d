//! Why goroutines waited to run, estimated from samples of the scheduler's state (`passive`, `sampled`).
//!
//! A share is the ratio of two sums over the window: goroutines × time that one cause held, and that all did.
//! Neighbouring samples resemble each other, so that what follows from their number alone is too narrow an interval. It
//! is that of batch means: the window is cut into some twenty stretches, and the spread of the ratio between them,
//! widened where neighbours still resemble each other, gives a Student's t interval. Where all stretches are alike, as
//! for a cause that was hardly ever seen, the spread is 0 and says too much: the interval is never narrower than
//! Wilson's for as many independent samples as there can have been at most.

use super::sched::Cause;
use crate::stream::causes::CauseSamples;

/// Most stretches that are kept; beyond it, neighbours are put together.
const MOST_BATCHES: usize = 64;
/// The window is cut into at least so many stretches, if there are as many, and into less than twice as many.
const BATCHES: usize = 20;
/// With fewer stretches, their spread is not known.
const LEAST_BATCHES: usize = 4;
/// The quantile of the normal distribution for an interval that holds in 95 of 100 windows.
const Z: f64 = 1.959_963_985;
/// Neighbours that resemble each other more are taken to do so this much.
const MOST_RESEMBLANCE: f64 = 0.9;

/// Why goroutines waited to run in a window, as an estimate.
#[derive(Clone, Debug, PartialEq)]
pub struct CauseEstimate {
    /// Samples that were taken.
    pub samples: u64,
    /// Samples that were dropped, since a P changed its state meanwhile.
    pub torn: u64,
    /// The mean number of goroutines that could run and did not.
    pub runnable_mean: f64,
    /// The share of the time in which there was at least one.
    pub some: f64,
    /// The causes that were seen, in the order of [`Cause::ALL`]. Their shares add up to 1.
    pub by_cause: Vec<CauseShare>,
    /// By Little's law, the mean wait of all goroutines that ran: goroutines × time ÷ `executed`. An upper bound, since
    /// those that inherited a time slice are not among the executed ones; their waits are in it.
    pub mean_wait_ns: Option<u64>,
    /// Times that a P took another goroutine to run, without those that inherited a time slice (`p.schedtick`).
    pub executed: Option<u64>,
}

/// The share that one cause has in the time that goroutines waited to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CauseShare {
    /// The cause.
    pub cause: Cause,
    /// Its share.
    pub share: f64,
    /// The lower end of the interval that it lies in, in 95 of 100 windows.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The samples of a window, in stretches of equal length.
#[derive(Clone, Debug, Default)]
pub(super) struct SampledCauses {
    batches: Vec<CauseSamples>,
    /// A stretch is made of two to the power of this many observations.
    doubled: u32,
    /// Of how many the last one is made so far.
    in_last: u64,
}

impl SampledCauses {
    /// Adds an observation.
    pub(super) fn add(&mut self, seen: &CauseSamples) {
        let most = 1u64.checked_shl(self.doubled).unwrap_or(u64::MAX);
        match self.batches.last_mut().filter(|_| self.in_last < most) {
            Some(last) => {
                last.add(seen);
                self.in_last += 1;
            }
            None => {
                self.batches.push(seen.clone());
                self.in_last = 1;
            }
        }
        if self.batches.len() > MOST_BATCHES {
            // An odd number: the last stretch, which was just begun, stays.
            self.batches = self.batches.chunks(2).map(sum).collect();
            self.doubled += 1;
        }
    }

    /// Estimates what the samples say; `None` without any.
    pub(super) fn estimate(&self) -> Option<CauseEstimate> {
        let all = sum(&self.batches);
        if all.samples == 0 || all.length_ns == 0 {
            return None;
        }
        let length = all.length_ns as f64;
        Some(CauseEstimate {
            samples: all.samples,
            torn: all.torn,
            runnable_mean: all.runnable_ns as f64 / length,
            some: (all.some_ns as f64 / length).min(1.0),
            by_cause: self.shares(&all),
            mean_wait_ns: all.runnable_ns.checked_div(all.executed),
            executed: Some(all.executed),
        })
    }

    fn shares(&self, all: &CauseSamples) -> Vec<CauseShare> {
        let per_batch = (self.batches.len() / BATCHES).max(1);
        let batches: Vec<[f64; Cause::COUNT]> = self
            .batches
            .chunks(per_batch)
            .map(|batches| by_cause(&sum(batches)))
            .collect();
        // The weight of all samples ÷ that of the heaviest: they say no more than so many of equal weight.
        let independent = all.runnable_ns as f64 / all.largest_ns.max(1) as f64;
        let seen = Cause::ALL.into_iter().zip(by_cause(all)).enumerate();
        seen.filter(|(_, (_, weight))| *weight > 0.0)
            .map(|(index, (cause, _))| {
                let pairs: Vec<(f64, f64)> = batches
                    .iter()
                    .map(|batch| {
                        let part = batch.get(index).copied().unwrap_or(0.0);
                        (part, batch.iter().sum())
                    })
                    .collect();
                let (share, low, high) = ratio(&pairs, independent);
                CauseShare {
                    cause,
                    share,
                    low,
                    high,
                }
            })
            .collect()
    }
}

fn sum(batches: &[CauseSamples]) -> CauseSamples {
    let mut sum = CauseSamples::default();
    batches.iter().for_each(|batch| sum.add(batch));
    sum
}

/// Goroutines × time, by cause. A cause that only a later gmpscope knows is [`Cause::Unknown`].
fn by_cause(samples: &CauseSamples) -> [f64; Cause::COUNT] {
    let mut all = [0.0; Cause::COUNT];
    for (number, ns) in &samples.by_cause {
        let known = Cause::ALL.get(usize::from(*number)).copied();
        if let Some(sum) = all.get_mut(known.unwrap_or(Cause::Unknown) as usize) {
            *sum += *ns as f64;
        }
    }
    all
}

/// Estimates Σ part ÷ Σ whole from pairs (part, whole) of consecutive stretches, and the ends of its interval.
fn ratio(pairs: &[(f64, f64)], independent: f64) -> (f64, f64, f64) {
    let (part, whole) = pairs
        .iter()
        .fold((0.0, 0.0), |(part, whole), pair| (part + pair.0, whole + pair.1));
    if whole <= 0.0 {
        return (0.0, 0.0, 1.0);
    }
    let share = (part / whole).clamp(0.0, 1.0);
    if pairs.len() < LEAST_BATCHES {
        return (share, 0.0, 1.0);
    }
    let residuals: Vec<f64> = pairs.iter().map(|(part, whole)| part - share * whole).collect();
    let squares: f64 = residuals.iter().map(|residual| residual * residual).sum();
    let products: f64 = residuals
        .iter()
        .zip(residuals.iter().skip(1))
        .map(|(one, next)| one * next)
        .sum();
    let resemblance = match squares > 0.0 {
        true => (products / squares).clamp(0.0, MOST_RESEMBLANCE),
        false => 0.0,
    };
    let n = pairs.len() as f64;
    let variance = squares * n / (n - 1.0) * (1.0 + resemblance) / (1.0 - resemblance);
    let half = student(pairs.len() - 1) * variance.sqrt() / whole;
    let (low, high) = wilson(share, independent);
    (
        share,
        low.min(share - half).max(0.0),
        high.max(share + half).min(1.0),
    )
}

/// Wilson's interval for a share of `n` independent samples.
fn wilson(share: f64, n: f64) -> (f64, f64) {
    let n = n.max(1.0);
    let scale = 1.0 / (1.0 + Z * Z / n);
    let centre = (share + Z * Z / (2.0 * n)) * scale;
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() * scale;
    ((centre - half).min(share), (centre + half).max(share))
}

/// The quantile of Student's t for an interval of 95 %, by the expansion of Cornish and Fisher: within 1 % from three
/// degrees of freedom on.
fn student(degrees: usize) -> f64 {
    let (z, n) = (Z, degrees.max(1) as f64);
    let terms = [
        z,
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| sum / n + term)
}

#[cfg(test)]
mod tests;
