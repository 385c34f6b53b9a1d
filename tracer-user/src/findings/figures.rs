//! Figures as findings write them.

/// `part` of `whole`, between 0 and 1.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p > 0.0 && p < 0.01 => "under 0.01%".to_owned(),
        p if p < 1.0 => format!("{p:.2}%"),
        p => format!("{p:.1}%"),
    }
}

/// A number of CPUs.
pub(super) fn cpus(limit: f64) -> String {
    format!("{limit:.2} CPUs")
}

/// A duration in seconds.
pub(super) fn seconds(ns: u64) -> String {
    format!("{:.1} s", ns as f64 / 1e9)
}

/// A duration in milliseconds.
pub(super) fn milliseconds(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}

/// A duration in the unit that suits it.
pub(super) fn duration(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => milliseconds(ns),
        _ => seconds(ns),
    }
}

/// A moment of the capture, in nanoseconds since its begin, as the rest of a sentence.
pub(super) fn moment(at_ns: u64) -> String {
    format!("at {:.3} s", at_ns as f64 / 1e9)
}

/// A mean number of something.
pub(super) fn mean(number: f64) -> String {
    match number {
        n if n > 0.0 && n < 0.01 => "under 0.01".to_owned(),
        n if n < 10.0 => format!("{n:.2}"),
        n => format!("{n:.1}"),
    }
}

/// `1 goroutine`, `2 goroutines`.
pub(super) fn counted(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_unit_that_suits_them() {
        let durations = [900, 999_949, 12_140_000, 999_900_000, 1_500_000_000].map(duration);
        assert_eq!(durations, ["0.9 us", "999.9 us", "12.1 ms", "999.9 ms", "1.5 s"]);
        assert_eq!(moment(1_204_000_000), "at 1.204 s");
        let means = [0.0, 0.001, 0.5, 12.34].map(mean);
        assert_eq!(means, ["0.00", "under 0.01", "0.50", "12.3"]);
        let counts = [1, 2].map(|count| counted(count, "stop"));
        assert_eq!(counts, ["1 stop", "2 stops"]);
    }
}
