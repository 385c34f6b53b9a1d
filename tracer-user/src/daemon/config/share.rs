//! Shares: percentages such as `0.5%`, or fractions such as `0.005`.

use super::mistake::shortened;

/// Parses a share: a percentage with `%`, or a fraction with a decimal point.
///
/// # Errors
/// The message says what is wrong with `text`.
pub fn parse(text: &str) -> Result<f64, String> {
    let wrong = || {
        format!(
            "`{}` is not a share: write a percentage, as in \"0.5%\"",
            shortened(text)
        )
    };
    let trimmed = text.trim();
    let (number, exponent) = match trimmed.strip_suffix('%') {
        Some(number) => (number.trim_end(), "e-2"),
        None if trimmed.contains('.') || trimmed == "0" => (trimmed, ""),
        // `1` could mean 1 % or everything.
        None => return Err(wrong()),
    };
    let is_decimal =
        number.bytes().all(|b| b.is_ascii_digit() || b == b'.') && number.bytes().any(|b| b.is_ascii_digit());
    if !is_decimal {
        return Err(wrong());
    }
    // The exponent moves the decimal point: a division would not round to the nearest share.
    let share: f64 = format!("{number}{exponent}").parse().map_err(|_| wrong())?;
    check(share, text)
}

/// Returns `share` if it is between 0 and 1.
///
/// # Errors
/// It is not; `text` is how it was written.
pub fn check(share: f64, text: &str) -> Result<f64, String> {
    if (0.0..=1.0).contains(&share) {
        // Makes 0 of -0.
        Ok(share.abs())
    } else {
        Err(format!(
            "`{}` is out of range: 0% to 100% are allowed",
            shortened(text)
        ))
    }
}

/// Formats a share as a percentage that [`parse`] reads back exactly.
pub fn exact(share: f64) -> String {
    if share == 0.0 {
        return "0%".to_owned();
    }
    // `5e-3`: the fewest digits that distinguish it from its neighbours.
    let scientific = format!("{share:e}");
    let Some((mantissa, exponent)) = scientific
        .split_once('e')
        .and_then(|(mantissa, exponent)| Some((mantissa, exponent.parse::<i32>().ok()?)))
    else {
        return format!("{scientific}%");
    };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    // Where the decimal point of the percentage stands, counted from the first digit.
    let point = exponent + 3;
    let length = digits.chars().count();
    match usize::try_from(point) {
        Ok(point) if point >= length => format!("{digits}{}%", "0".repeat(point - length)),
        Ok(point) if point > 0 => {
            let (whole, rest) = digits.split_at(point);
            format!("{whole}.{rest}%")
        }
        _ => format!("0.{}{digits}%", "0".repeat(point.unsigned_abs() as usize)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentages_and_fractions() {
        for (text, share) in [
            ("0.5%", 0.005),
            ("0.7%", 0.007),
            ("100%", 1.0),
            (" 12.5 % ", 0.125),
            ("0%", 0.0),
            ("0", 0.0),
            ("0.005", 0.005),
            ("1.0", 1.0),
            (".5%", 0.005),
        ] {
            assert_eq!(parse(text), Ok(share), "{text}");
        }
        for text in [
            "", "%", ".", ".%", "1", "5", "-1%", "+1%", "1e-3", "1e1%", "100.1%", "1.5", "nan%", "inf",
            "1,5%", "1%%", "0x1%",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_written_as_people_write_it() {
        for (share, text) in [
            (0.0, "0%"),
            (1.0, "100%"),
            (0.005, "0.5%"),
            (0.125, "12.5%"),
            (0.1, "10%"),
            (0.000_1, "0.01%"),
            (0.012_34, "1.234%"),
        ] {
            assert_eq!(exact(share), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(share in 0.0f64..=1.0, smaller in 0i32..300) {
            for share in [share, share * 10f64.powi(-smaller)] {
                prop_assert_eq!(parse(&exact(share)), Ok(share));
            }
        }

        #[test]
        fn nothing_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
