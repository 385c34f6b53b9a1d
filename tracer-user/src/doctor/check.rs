//! The result of looking at one feature or privilege.

use serde::Serialize;

use crate::plan::Mode;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but worse.
    Degraded,
    /// It does not work.
    Missing,
}

impl Status {
    /// The name that text and JSON use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

/// One feature or privilege.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it stands.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What follows from it; absent when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consequence: Option<String>,
    /// What to do about it, where something can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<String>,
    /// Modes that are impossible because of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prevents: Vec<Mode>,
}

impl Check {
    /// All is well.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            detail: detail.into(),
            consequence: None,
            what_to_do: None,
            prevents: vec![],
        }
    }

    /// It works, but worse: `consequence` says how.
    pub fn degraded(name: &'static str, detail: impl Into<String>, consequence: impl Into<String>) -> Self {
        Self {
            status: Status::Degraded,
            consequence: Some(consequence.into()),
            ..Self::ok(name, detail)
        }
    }

    /// It does not work, and so neither do these modes.
    pub fn missing(name: &'static str, detail: impl Into<String>, prevents: &[Mode]) -> Self {
        let names: Vec<&str> = prevents.iter().map(|mode| mode.name()).collect();
        let consequence = (!names.is_empty()).then(|| format!("no {}", names.join(", no ")));
        Self {
            status: Status::Missing,
            consequence,
            prevents: prevents.to_vec(),
            ..Self::ok(name, detail)
        }
    }

    /// The same with advice.
    pub fn advise(self, what_to_do: impl Into<String>) -> Self {
        Self {
            what_to_do: Some(what_to_do.into()),
            ..self
        }
    }
}

/// The modes that need probes.
pub const PROBING: &[Mode] = &[Mode::Sampled, Mode::Exact, Mode::Full];
