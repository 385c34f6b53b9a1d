//! The result of checking one feature or privilege.

use serde::Serialize;

use crate::plan::Mode;

/// The status of a feature or privilege.
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
    /// Name of the feature or privilege.
    pub name: &'static str,
    /// Its status.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// The consequence; absent if all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consequence: Option<String>,
    /// Advice, where something can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<String>,
    /// Modes that are impossible because of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prevents: Vec<Mode>,
}

impl Check {
    /// A check with status [`Status::Ok`].
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

    /// A check with status [`Status::Degraded`]: `consequence` says what is worse.
    pub fn degraded(name: &'static str, detail: impl Into<String>, consequence: impl Into<String>) -> Self {
        Self {
            status: Status::Degraded,
            consequence: Some(consequence.into()),
            ..Self::ok(name, detail)
        }
    }

    /// A check with status [`Status::Missing`], which prevents these modes.
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

    /// Adds advice.
    pub fn advise(self, what_to_do: impl Into<String>) -> Self {
        Self {
            what_to_do: Some(what_to_do.into()),
            ..self
        }
    }
}

/// The modes that need probes.
pub const PROBING: &[Mode] = &[Mode::Sampled, Mode::Exact, Mode::Full];
