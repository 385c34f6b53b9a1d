//! Label values. What comes from a target may be anything: a name is whatever its author wrote into a file.

use std::borrow::Cow;

use crate::escape;

/// Longest label value, in bytes.
pub const MOST_BYTES: usize = 256;

/// The label value under which is counted what has no series of its own.
pub const OTHER: &str = "other";

/// `text` as a label value: without characters that move a terminal's cursor, and not longer than [`MOST_BYTES`]. Two
/// texts may come out alike, so whatever is told apart by the outcome must be added up.
pub fn clean(text: &str) -> Cow<'_, str> {
    let clean = escape::escape(text);
    if clean.len() <= MOST_BYTES {
        return clean;
    }
    const MARK: char = '…';
    let mut end = MOST_BYTES - MARK.len_utf8();
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    let mut short = clean.into_owned();
    short.truncate(end);
    short.push(MARK);
    Cow::Owned(short)
}

/// `word` where it is one of `known`, else [`OTHER`].
pub fn known<'a>(word: &'a str, known: &[&str]) -> &'a str {
    if known.contains(&word) { word } else { OTHER }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_harmless_stays() {
        assert_eq!(clean("/srv/büro/\"a\\b\""), "/srv/büro/\"a\\b\"");
        assert_eq!(clean("a\nb\u{1b}[2J"), "a\\u{a}b\\u{1b}[2J");
        assert_eq!(known("running", &["idle", "running"]), "running");
        assert_eq!(known("status 77", &["idle", "running"]), "other");
    }

    proptest! {
        #[test]
        fn no_value_is_long_or_dangerous(text: String, times in 1usize..400) {
            let text = text.repeat(times);
            let value = clean(&text);
            prop_assert!(value.len() <= MOST_BYTES);
            prop_assert!(!value.chars().any(escape::is_dangerous));
        }
    }
}
