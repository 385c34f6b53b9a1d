//! Quotas of CPU time.

use std::time::Duration;

/// CPU time that a control group may use in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// CPU time.
    pub time: Duration,
    /// The period.
    pub period: Duration,
}

impl Quota {
    /// This share of a CPU, in percent, in periods of 100 ms.
    pub const fn of_percent(percent: u32) -> Self {
        Self {
            time: Duration::from_millis(percent as u64),
            period: Duration::from_millis(100),
        }
    }
}

/// The throttled time in a `cpu.stat`, of v1 (nanoseconds) or v2 (microseconds).
pub fn throttled_ns(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        let value: u64 = value.trim().parse().ok()?;
        match name {
            "throttled_time" => Some(value),
            "throttled_usec" => value.checked_mul(1_000),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttled_time_is_read_in_either_unit() {
        let legacy = "nr_periods 9\nnr_throttled 4\nthrottled_time 1234567\nnr_bursts 0\n";
        let unified = "usage_usec 5\nnr_periods 9\nnr_throttled 4\nthrottled_usec 1234\n";
        assert_eq!(throttled_ns(legacy), Some(1_234_567));
        assert_eq!(throttled_ns(unified), Some(1_234_000));
        assert_eq!(throttled_ns("usage_usec 5\n"), None);
    }
}
