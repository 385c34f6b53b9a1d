//! Renders a histogram as rows of powers of two, like bcc's `runqlat`.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::stream::BucketScheme;
use crate::stream::buckets::UNBOUNDED_NS;

use crate::document::hist::Hist;
use crate::output::text::layout::WIDTH;

/// Longest bar.
const BAR: usize = 40;

/// Renders the rows of `hist`, from the first that has a wait to the last, with a header that names the unit;
/// an empty text for an empty histogram. No bucket of any source crosses a power of two, so the rows are exact;
/// where the source's lowest bucket spans several, it is one row.
pub fn rows(hist: &Hist) -> String {
    let floor = floor_of(hist);
    let mut by_row: BTreeMap<u64, u64> = BTreeMap::new();
    let mut unbounded = 0u64;
    for bucket in &hist.buckets {
        if bucket.le_ns >= UNBOUNDED_NS {
            unbounded = unbounded.saturating_add(bucket.count);
            continue;
        }
        let high = bucket.le_ns.max(floor).max(1);
        let row = by_row.entry(high.ilog2().into()).or_default();
        *row = row.saturating_add(bucket.count);
    }
    let largest = by_row.values().copied().max().unwrap_or(0).max(unbounded);
    if largest == 0 {
        return String::new();
    }
    let bounds = |exponent: u64| {
        let high = (2u64 << exponent) - 1;
        (if high <= floor.max(1) { 0 } else { 1u64 << exponent }, high)
    };
    let top = by_row
        .last_key_value()
        .map_or(0, |(exponent, _)| bounds(*exponent).1);
    let number = digits(top).max(10);
    let count = digits(largest).max(8);
    // Both numbers, ` -> `, ` : `, the count, ` |`, the bar, `|`.
    let bar = WIDTH.saturating_sub(2 * number + 4 + 3 + count + 2 + 1).min(BAR);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:>number$}    {:<number$} : {:<count$}  distribution",
        "nsecs", "", "count"
    );
    let mut row = |low: &str, arrow: &str, high: &str, n: u64| {
        let stars = (u128::from(n) * bar as u128 / u128::from(largest)) as usize;
        let _ = writeln!(
            text,
            "{low:>number$} {arrow} {high:<number$} : {n:<count$} |{:<bar$}|",
            "*".repeat(stars)
        );
    };
    if let (Some((first, _)), Some((last, _))) = (by_row.first_key_value(), by_row.last_key_value()) {
        for exponent in *first..=*last {
            let (low, high) = bounds(exponent);
            row(
                &low.to_string(),
                "->",
                &high.to_string(),
                by_row.get(&exponent).copied().unwrap_or(0),
            );
        }
    }
    if unbounded > 0 {
        row("more", "  ", "", unbounded);
    }
    text
}

/// Returns the largest value of the row in which the source's buckets are coarser than powers of two.
fn floor_of(hist: &Hist) -> u64 {
    // The JSON does not contain the scheme; only the runtime's histogram of Go 1.21+ is this coarse.
    let coarse = BucketScheme::Go121;
    if hist.resolution == coarse.resolution() {
        coarse.linear_floor_ns()
    } else {
        0
    }
}

fn digits(n: u64) -> usize {
    n.checked_ilog10().map_or(1, |digits| digits as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::hist::Bucket;

    fn hist(resolution: f64, buckets: &[(u64, u64)]) -> Hist {
        let buckets = buckets
            .iter()
            .map(|(le_ns, count)| Bucket {
                le_ns: *le_ns,
                count: *count,
            })
            .collect();
        Hist {
            resolution,
            buckets,
            ..Hist::default()
        }
    }

    #[test]
    fn buckets_fall_into_their_powers_of_two() {
        let text = rows(&hist(0.25, &[(63, 4), (127, 1), (1279, 2), (2047, 6), (8191, 3)]));
        let expected = "     nsecs               : count     distribution
         0 -> 63         : 4        |********************                    |
        64 -> 127        : 1        |*****                                   |
       128 -> 255        : 0        |                                        |
       256 -> 511        : 0        |                                        |
       512 -> 1023       : 0        |                                        |
      1024 -> 2047       : 8        |****************************************|
      2048 -> 4095       : 0        |                                        |
      4096 -> 8191       : 3        |***************                         |
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_lowest_values_and_the_unbounded_have_rows() {
        let text = rows(&hist(
            1.0 / 16.0,
            &[(0, 1), (1, 1), (2, 2), (3, 1), (UNBOUNDED_NS, 1)],
        ));
        assert!(text.contains("         0 -> 1          : 2 "), "{text}");
        assert!(text.contains("         2 -> 3          : 3 "), "{text}");
        assert!(text.contains("      more               : 1 "), "{text}");
    }

    #[test]
    fn nothing_is_wider_than_the_terminal() {
        for (le, count) in [
            (1, 1),
            (1 << 40, u64::MAX),
            (UNBOUNDED_NS - 1, u64::MAX),
            (UNBOUNDED_NS, 1),
        ] {
            let text = rows(&hist(1.0 / 16.0, &[(15, 3), (le, count)]));
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        }
        assert_eq!(rows(&Hist::default()), "");
    }
}
