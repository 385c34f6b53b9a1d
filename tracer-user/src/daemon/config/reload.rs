//! The record of a reload, as it is written to the log and shown by `/health/config`.

use jiff::Timestamp;
use serde::Serialize;

use super::Mistake;

/// What caused a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// SIGHUP.
    Sighup,
    /// A file has changed.
    File,
}

/// One reload, as it is written to the log.
#[derive(Clone, Debug, Serialize)]
pub struct Reload {
    /// When it was made.
    pub time: Timestamp,
    /// Always `config_reload`.
    pub event: &'static str,
    /// What caused it.
    pub origin: Trigger,
    /// `ok` or `error`
    pub result: &'static str,
    /// [`Loaded::sha256`](super::Loaded::sha256) of the configuration that is in force now.
    pub sha256: String,
    /// Names of the settings that changed, `target` for rules.
    pub changed: Vec<&'static str>,
    /// Settings that have changed since the daemon started, and take effect only when it is restarted.
    pub needs_restart: Vec<&'static str>,
    /// The mistakes, if the result is `error`: then the old configuration stays in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}
