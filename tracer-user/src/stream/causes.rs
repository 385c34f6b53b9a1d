//! What samples of the scheduler's state say of why goroutines waited to run (`passive`, `sampled`).

/// Samples of a short stretch of time, summed up. Each sample stands for the time since the one before it, so that sums
/// of goroutines × time are estimates of integrals, whatever the rate.
///
/// The stretches are short, since the spread between them is what the uncertainty of an estimate follows from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CauseSamples {
    /// Samples that were taken, those without a runnable goroutine included.
    pub samples: u64,
    /// Samples that were dropped, since a P changed its state while they were taken. The next one stands for their time.
    pub torn: u64,
    /// The time that the samples stand for, in nanoseconds.
    pub length_ns: u64,
    /// Σ goroutines that could run and did not × the time of the sample, in nanoseconds.
    pub runnable_ns: u64,
    /// Of `length_ns`, the time of those samples in which there was at least one.
    pub some_ns: u64,
    /// The largest part of `runnable_ns` that comes from a single sample.
    pub largest_ns: u64,
    /// Times that a P took another goroutine to run (Σ `p.schedtick`). Goroutines that inherit a time slice are not
    /// counted.
    pub executed: u64,
    /// `runnable_ns` by cause, the number of a [`Cause`](crate::model::sched::Cause), ascending; no zeros.
    pub by_cause: Vec<(u8, u64)>,
}

impl CauseSamples {
    /// Adds samples of another stretch of time.
    pub fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.samples, other.samples),
            (&mut self.torn, other.torn),
            (&mut self.length_ns, other.length_ns),
            (&mut self.runnable_ns, other.runnable_ns),
            (&mut self.some_ns, other.some_ns),
            (&mut self.executed, other.executed),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
        self.largest_ns = self.largest_ns.max(other.largest_ns);
        for (cause, ns) in &other.by_cause {
            match self.by_cause.binary_search_by_key(cause, |(cause, _)| *cause) {
                Ok(at) => {
                    if let Some((_, sum)) = self.by_cause.get_mut(at) {
                        *sum = sum.saturating_add(*ns);
                    }
                }
                Err(at) => self.by_cause.insert(at, (*cause, *ns)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_both_and_the_largest_is_that_of_one() {
        let of = |largest_ns, by_cause: &[(u8, u64)]| CauseSamples {
            samples: 2,
            torn: 1,
            length_ns: 20,
            runnable_ns: by_cause.iter().map(|(_, ns)| ns).sum(),
            some_ns: 10,
            largest_ns,
            executed: 7,
            by_cause: by_cause.to_vec(),
        };
        let mut sum = of(30, &[(7, 40)]);
        sum.add(&of(50, &[(1, 60), (7, 5), (9, 1)]));
        sum.add(&CauseSamples::default());
        assert_eq!((sum.samples, sum.torn, sum.length_ns), (4, 2, 40));
        assert_eq!((sum.runnable_ns, sum.some_ns, sum.executed), (106, 20, 14));
        assert_eq!(sum.largest_ns, 50);
        assert_eq!(sum.by_cause, [(1, 60), (7, 45), (9, 1)]);
        let mut most = of(1, &[(7, u64::MAX)]);
        most.add(&of(1, &[(7, u64::MAX)]));
        assert_eq!(most.by_cause, [(7, u64::MAX)]);
    }
}
