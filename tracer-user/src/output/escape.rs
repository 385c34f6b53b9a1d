//! Making strings from the target harmless on a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character could make a terminal do something, or show text in another order than it is
/// written: C0 and C1 controls, line and paragraph separators, and the marks that turn the direction of
/// writing (Unicode's Bidi_Control) or join nothing visible.
pub fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// `text` with every dangerous character as `\u{…}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_dangerous(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Compact JSON with every dangerous character as `\uXXXX`, which is the same JSON: outside of strings it has
/// only ASCII that is not a control.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_dangerous) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_dangerous(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_cannot_move_the_cursor_or_turn_the_text() {
        let hostile = "main.\x1b[2Jf\r\u{9b}31m\u{202e}evil\u{7f}";
        let escaped = escape(hostile);
        assert_eq!(escaped, "main.\\u{1b}[2Jf\\u{d}\\u{9b}31m\\u{202e}evil\\u{7f}");
        assert!(!escaped.chars().any(is_dangerous));
        assert!(matches!(escape("main.(*Sërver).λ·1[…]"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn escaped_json_is_harmless_and_the_same(text: String) {
            let value = serde_json::json!({ "name": text });
            let escaped = escape_json(&value.to_string()).into_owned();
            prop_assert!(!escaped.chars().any(is_dangerous));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }
    }
}
