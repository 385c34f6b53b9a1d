//! Label values. Those that come from a target are untrusted: a name may hold anything.

use std::borrow::Cow;

use crate::escape;

/// The longest label value, in bytes.
pub const MOST_BYTES: usize = 256;

/// The label value for everything that has no series of its own.
pub const OTHER: &str = "other";

/// Makes `text` a label value: without dangerous characters, and not longer than [`MOST_BYTES`]. Two texts may become
/// equal, so series with equal labels must be added up.
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

/// Returns `word` if it is one of `known`, else [`OTHER`].
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
