//! What a target may cost, in nanoseconds of its CPU time.

/// Nanoseconds in a second.
pub(super) const SECOND: u64 = 1_000_000_000;
/// How much of what is allowed a mode may be expected to cost if it is to be attached, in percent: what it then costs
/// is above the forecast as often as below.
pub(super) const ADMITTED_PERCENT: u64 = 80;

/// The budget of one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Share of the target's own CPU time.
    pub share: f64,
    /// CPU time per second that tracing may always cost it, however idle it is, in nanoseconds.
    pub floor_ns: u64,
}

impl Budget {
    /// What tracing may cost in a window of this length in which the target used this much CPU time.
    pub fn allowed_ns(&self, cpu_ns: u64, length_ns: u64) -> u64 {
        let of_cpu = self.share.clamp(0.0, 1.0) * cpu_ns as f64;
        // A float beyond the range of the integer saturates.
        (of_cpu as u64).max(scale(self.floor_ns, length_ns))
    }
}

/// What was measured of a target in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// How long it was.
    pub length_ns: u64,
    /// CPU time that the target used in it.
    pub cpu_ns: u64,
    /// Probe hits in it, including those that found the target switched off.
    pub hits: u64,
    /// Waits that its runtime tracked in it; `None` if they were not, or could not be, read.
    pub tracked_waits: Option<u64>,
}

impl Window {
    /// Converts a count in this window to a rate per second.
    pub(super) fn per_second(&self, count: u64) -> u64 {
        let per_second = u128::from(count) * u128::from(SECOND) / u128::from(self.length_ns.max(1));
        u64::try_from(per_second).unwrap_or(u64::MAX)
    }
}

/// Converts a rate per second to the amount in `length_ns`.
pub(super) fn scale(per_second: u64, length_ns: u64) -> u64 {
    let scaled = u128::from(per_second) * u128::from(length_ns) / u128::from(SECOND);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_A_PERCENT: Budget = Budget {
        share: 0.005,
        floor_ns: 200_000,
    };

    #[test]
    fn a_share_of_the_cpu_and_a_floor() {
        assert_eq!(HALF_A_PERCENT.allowed_ns(SECOND, SECOND), 5_000_000);
        assert_eq!(HALF_A_PERCENT.allowed_ns(0, SECOND), 200_000);
        assert_eq!(HALF_A_PERCENT.allowed_ns(0, 10 * SECOND), 2_000_000);
        assert_eq!(
            HALF_A_PERCENT.allowed_ns(u64::MAX, u64::MAX),
            (0.005 * u64::MAX as f64) as u64
        );
    }
}
