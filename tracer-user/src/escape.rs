//! Escapes text that somebody else has chosen: names of processes, files, functions and versions come from traced
//! programs, recordings and configuration files, and may contain anything. On a terminal such text could move the
//! cursor, and in a list or a log it could forge a line.
//!
//! There are two defences: an [`Untrusted`] can only be formatted escaped, newlines included, so that a name stays
//! within its sentence; and everything that is written to standard error goes through [`lines`], which escapes what
//! was missed, and leaves no line that could be taken for another message.

use std::{
    borrow::Cow,
    fmt::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

/// Text from a target, a recording, or another source that is not trusted. `Display` and `Debug` escape it
/// ([`escape`]); serialized it is the raw text, since JSON and recordings have their own escapes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Untrusted(String);

impl Untrusted {
    /// The text of a path; bytes that are not UTF-8 become U+FFFD.
    pub fn path(path: &Path) -> Self {
        Self(path.display().to_string())
    }

    /// The unescaped text: to open files, to compare, and for formats with their own escapes. Never for people.
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// Like [`Self::raw`], by value.
    pub fn into_raw(self) -> String {
        self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escape(&self.0))
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", escape(&self.0))
    }
}

impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Untrusted {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl PartialEq<str> for Untrusted {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<String> for Untrusted {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

impl PartialEq<&str> for Untrusted {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

/// Whether a character could control a terminal, show text in another order than it is written, or be invisible: C0
/// and C1 controls, line and paragraph separators, and all of Unicode's format characters (category Cf: Bidi_Control,
/// zero-width ones, tags), including what is reserved for more of them.
pub fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        )
        || matches!(c, '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{180e}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(
            c,
            '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        )
        || matches!(c, '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}')
        || matches!(c, '\u{e0000}'..='\u{e0fff}')
}

/// Beginnings of our own lines on standard error.
const PREFIXES: [&str; 2] = ["gmpscope:", "attached:"];

/// Escapes a message for standard error, in which line ends are our own (a list, the end of a verifier's log). Should
/// a name with a newline have got into it without [`Untrusted`], what follows the newline cannot be taken for a
/// separate message: only the first line begins like one.
pub fn lines(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for (n, line) in message.lines().enumerate() {
        if n > 0 {
            text.push('\n');
            if PREFIXES.iter().any(|prefix| line.starts_with(prefix)) {
                text.push_str("  ");
            }
        }
        text.push_str(&escape(line));
    }
    text
}

/// Replaces every dangerous character of `text` by `\u{…}`.
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

/// Replaces every dangerous character of compact JSON by `\uXXXX`, which is the same JSON: outside of strings it has
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

    #[test]
    fn untrusted_text_stays_in_its_place_however_it_is_formatted() {
        let name = Untrusted::from("a\nb\u{1b}]0;x\u{7}\u{202e}\u{e0041}");
        let shown = "a\\u{a}b\\u{1b}]0;x\\u{7}\\u{202e}\\u{e0041}";
        assert_eq!(name.to_string(), shown);
        assert_eq!(format!("{name:?}"), format!("\"{shown}\""));
        assert_eq!(
            format!("[{:<4}|{:>4}]", Untrusted::from("é"), Untrusted::from("x")),
            "[é   |   x]"
        );
        // Types that contain it derive Debug.
        assert!(!format!("{:#?}", Some((&name, 1))).contains(['\u{1b}', '\u{7}', '\u{202e}']));
        assert_eq!(name.raw(), "a\nb\u{1b}]0;x\u{7}\u{202e}\u{e0041}");
        let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"/a\xff\n");
        assert_eq!(
            Untrusted::path(Path::new::<std::ffi::OsStr>(odd)).to_string(),
            "/a\u{fffd}\\u{a}"
        );
    }

    #[test]
    fn a_message_has_no_line_that_looks_like_another_message() {
        let forged =
            lines("process 1 (a\r\ngmpscope: error: all is lost\n  listed\nlisted\n\x1b[2J) has ended\n");
        assert_eq!(
            forged,
            "process 1 (a\n  gmpscope: error: all is lost\n  listed\nlisted\n\\u{1b}[2J) has ended"
        );
        assert_eq!(lines("one"), "one");
        assert_eq!(lines(""), "");
    }

    proptest! {
        #[test]
        fn nothing_dangerous_comes_out(text: String) {
            let name = Untrusted::from(text.as_str());
            let shown = format!("{name}{name:?}{name:>40}");
            prop_assert!(!shown.chars().any(is_dangerous));
            prop_assert!(!lines(&text).chars().any(|c| c != '\n' && is_dangerous(c)));
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&text).unwrap());
            prop_assert_eq!(serde_json::from_str::<Untrusted>(&json).unwrap(), name);
        }

        #[test]
        fn escaped_json_is_harmless_and_the_same(text: String) {
            let value = serde_json::json!({ "name": text });
            let escaped = escape_json(&value.to_string()).into_owned();
            prop_assert!(!escaped.chars().any(is_dangerous));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }
    }
}
