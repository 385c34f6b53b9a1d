//! Renders durations, shares and other figures.

use crate::stream::buckets::UNBOUNDED_NS;

/// Renders a duration with three significant digits and its unit: `479ns`, `1.28us`, `33.5ms`, `2.10s`. The upper bound
/// of a bucket that has none is `more`. At most 7 characters below a day.
pub fn duration(ns: u64) -> String {
    if ns >= UNBOUNDED_NS {
        return "more".to_owned();
    }
    let (unit, name) = match ns {
        0..1_000 => return format!("{ns}ns"),
        // From where three digits would round up to the next unit.
        1_000..999_500 => (1e3, "us"),
        999_500..999_500_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = ns as f64 / unit;
    match value {
        v if v < 9.995 => format!("{v:.2}{name}"),
        v if v < 99.95 => format!("{v:.1}{name}"),
        v => format!("{v:.0}{name}"),
    }
}

/// Renders seconds with one decimal: `10.0 s`.
pub fn seconds(ns: u64) -> String {
    format!("{:.1} s", ns as f64 / 1e9)
}

/// Renders a share between 0 and 1 as `12.3%`; a share above 0 is never `0.0%`.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    match part as f64 / whole as f64 * 100.0 {
        p if p > 0.0 && p < 0.1 => "<0.1%".to_owned(),
        p => format!("{p:.1}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let cases = [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.00us"),
            (1_279, "1.28us"),
            (9_996, "10.0us"),
            (99_960, "100us"),
            (999_499, "999us"),
            (999_500, "1.00ms"),
            (33_554_431, "33.6ms"),
            (999_500_000, "1.00s"),
            (3_600_000_000_000, "3600s"),
            (UNBOUNDED_NS, "more"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn a_small_share_is_not_none() {
        assert_eq!(percent(1, 100_000), "<0.1%");
        assert_eq!(percent(0, 5), "0.0%");
        assert_eq!(percent(1, 8), "12.5%");
        assert_eq!(percent(0, 0), "-");
    }
}
