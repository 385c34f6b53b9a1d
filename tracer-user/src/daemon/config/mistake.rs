//! The mistakes in a configuration.

use std::{borrow::Cow, fmt};

use serde::Serialize;

use super::origin::Origin;
use crate::escape::escape;

/// How many mistakes are reported one by one; of the others only the number is.
pub const MOST: usize = 100;

/// How many characters of a key or value are shown.
const SHOWN: usize = 60;

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Its kind.
    pub kind: Kind,
    /// Where it is: `/etc/gmpscope/config.toml:3:10`, `environment GMPSCOPE_HTTP_LISTEN`, `flag --http-listen`.
    pub at: String,
    /// The dotted name of the setting, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What is wrong, and what is allowed. The value of an unknown key is not in it, since it may be a secret.
    pub problem: String,
}

/// Kinds of mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A file cannot be read.
    Unreadable,
    /// A file is not TOML.
    Syntax,
    /// There is no such setting.
    UnknownKey,
    /// A setting cannot have this value.
    Value,
}

impl Mistake {
    /// A mistake at a place.
    pub fn new(kind: Kind, origin: &Origin, key: Option<&str>, problem: &str) -> Self {
        let at = match origin {
            Origin::File { path, at: Some(at) } => format!("{}:{}:{}", path.display(), at.line, at.column),
            other => other.to_string(),
        };
        Self {
            kind,
            at: escape(&at).into_owned(),
            key: key.map(|key| shortened(key).into_owned()),
            problem: escape(problem).into_owned(),
        }
    }

    /// Whether this is about a key that is not a setting.
    pub fn is_unknown_key(&self) -> bool {
        self.kind == Kind::UnknownKey
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.problem)
    }
}

/// The first [`MOST`] of `mistakes`, and one that says how many more there are.
pub fn bounded(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    let more = mistakes.len().saturating_sub(MOST);
    if let Some(last) = mistakes.get(MOST).cloned() {
        mistakes.truncate(MOST);
        mistakes.push(Mistake {
            key: None,
            problem: format!("and {more} more mistakes from here on"),
            ..last
        });
    }
    mistakes
}

/// Describes all mistakes, each in a line.
pub fn describe(mistakes: &[Mistake]) -> String {
    let count = match mistakes.len() {
        1 => "a mistake".to_owned(),
        n => format!("{n} mistakes"),
    };
    let lines: Vec<String> = mistakes.iter().map(|mistake| format!("\n{mistake}")).collect();
    format!("{count} in the configuration:{}", lines.concat())
}

/// Makes `text` short enough for a line, and harmless on a terminal.
pub fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        None => escape(text),
        Some((end, _)) => {
            let kept = text.get(..end).unwrap_or_default();
            Cow::Owned(format!("{}…", escape(kept)))
        }
    }
}
