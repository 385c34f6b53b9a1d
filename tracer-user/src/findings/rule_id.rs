//! The name of a rule, in documents.

use std::{borrow::Cow, fmt, ops::Deref};

use serde::{Deserialize, Serialize};

use crate::escape::escape;

/// The stable name of a rule. A document may have that of a rule that only a later version knows, so this is not an enum;
/// and it may come from anywhere, so it is formatted escaped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(Cow<'static, str>);

impl RuleId {
    /// The name of a rule of a table.
    pub(super) const fn of(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name as it is in the document, unescaped.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for RuleId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escape(&self.0))
    }
}

impl fmt::Debug for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", escape(&self.0))
    }
}

impl PartialEq<str> for RuleId {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for RuleId {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_json_even_if_no_rule_has_it_and_is_shown_escaped() {
        for name in ["late-poll", "of-a-later-version", "a\u{1b}[2J"] {
            let json = serde_json::to_string(name).unwrap();
            let id: RuleId = serde_json::from_str(&json).unwrap();
            assert_eq!(id, name);
            assert_eq!(serde_json::to_string(&id).unwrap(), json);
            assert!(!format!("{id}{id:?}").contains('\u{1b}'));
        }
        assert_eq!(RuleId::of("late-poll").to_string(), "late-poll");
    }
}
