//! Durations as Go and systemd write them: `500ms`, `10s`, `2m`, `1h30m`, `1.5s`.

use std::time::Duration;

use jiff::SignedDuration;

/// Longest duration that is accepted.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

const EXAMPLES: &str = "as in 500ms, 10s, 2m, 1h30m";

/// Parses a duration of at most a year, or zero.
///
/// # Errors
/// The message says what is wrong with `text` and how a duration is written.
pub fn parse(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text
        .trim()
        .parse()
        .map_err(|_| format!("`{text}` is not a duration: write a number and its unit, {EXAMPLES}"))?;
    let duration = Duration::try_from(parsed).map_err(|_| "a duration cannot be negative".to_string())?;
    if duration > LONGEST {
        return Err("that is more than a year".to_string());
    }
    Ok(duration)
}

/// Parses a duration above zero.
///
/// # Errors
/// As [`parse`].
pub fn positive(text: &str) -> Result<Duration, String> {
    let duration = parse(text)?;
    if duration.is_zero() {
        return Err(format!(
            "a duration of zero makes no sense here: write for example {EXAMPLES}"
        ));
    }
    Ok(duration)
}

/// Parses a period between two lines of output, of at least 10 ms.
///
/// # Errors
/// As [`positive`].
pub fn period(text: &str) -> Result<Duration, String> {
    let duration = positive(text)?;
    if duration < Duration::from_millis(10) {
        return Err("the shortest interval is 10ms".to_string());
    }
    Ok(duration)
}

/// Formats a duration in the largest unit in which it is a whole number: [`parse`] reads back the same.
pub fn exact(duration: Duration) -> String {
    const UNITS: [(u128, &str); 6] = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let ns = duration.as_nanos();
    let unit = UNITS.iter().find(|(unit, _)| ns > 0 && ns.is_multiple_of(*unit));
    unit.map_or_else(|| "0s".to_owned(), |(unit, name)| format!("{}{name}", ns / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_exact_unit_is_chosen() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (200_000, "200us"),
            (1_500_000_000, "1500ms"),
            (90_000_000_000, "90s"),
            (7_200_000_000_000, "2h"),
        ] {
            assert_eq!(exact(Duration::from_nanos(ns)), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ns in 0..=LONGEST.as_nanos() as u64, zeros in 0u32..13) {
            let duration = Duration::from_nanos(ns - ns % 10u64.pow(zeros));
            prop_assert_eq!(parse(&exact(duration)), Ok(duration));
        }
    }
}
