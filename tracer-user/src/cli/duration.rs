//! Durations as Go and systemd write them: `500ms`, `10s`, `2m`, `1h30m`, `1.5s`.

use std::time::Duration;

use jiff::SignedDuration;

/// The longest duration that is taken for meant.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A duration above zero and of at most a year.
///
/// # Errors
/// Says what is wrong with `text` and how a duration is written.
pub fn positive(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text
        .trim()
        .parse()
        .map_err(|_| format!("`{text}` is no duration: write a number and its unit, {EXAMPLES}"))?;
    let duration = Duration::try_from(parsed).map_err(|_| "a duration cannot be negative".to_string())?;
    if duration.is_zero() {
        return Err(format!(
            "a duration of zero makes no sense here: write for example {EXAMPLES}"
        ));
    }
    if duration > LONGEST {
        return Err("that is more than a year".to_string());
    }
    Ok(duration)
}

/// The same, for a period between two lines of output: at least 10 ms.
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

const EXAMPLES: &str = "as in 500ms, 10s, 2m, 1h30m";
