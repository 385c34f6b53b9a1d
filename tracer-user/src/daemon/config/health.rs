//! What `/health/config` says about the configuration. No value is in it.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::{Loaded, Mistake, Origin, reload::Reload, table::SETTINGS};

/// The configuration in force, and the last reload.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// Whether the last reading of the configuration had no mistake.
    pub ok: bool,
    /// Files that the configuration in force was read from.
    pub source: Vec<PathBuf>,
    /// When it was loaded.
    pub last_loaded: Timestamp,
    /// Its digest, as in the log.
    pub sha256: String,
    /// Whether a change of a file is seen by itself; else by SIGHUP.
    pub watching: bool,
    /// Settings that are set, and where.
    pub valid: Vec<Key>,
    /// Settings that nothing sets: they have their defaults.
    pub missing: Vec<&'static str>,
    /// Keys of the last reading that are no settings.
    pub unknown: Vec<Mistake>,
    /// The last reload, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reload: Option<Reload>,
}

/// One setting, or rule.
#[derive(Clone, Debug, Serialize)]
pub struct Key {
    /// `http.listen`, `target[0]`
    pub key: String,
    /// Where it is set.
    pub origin: Origin,
}

impl Health {
    pub(super) fn of(loaded: &Loaded, last: Option<&Reload>, watching: bool) -> Self {
        let mistakes = last.map(|reload| reload.mistakes.as_slice()).unwrap_or_default();
        let origin = |name| loaded.origins.get(name).unwrap_or(&Origin::Default);
        let (missing, set): (Vec<_>, Vec<_>) = SETTINGS
            .iter()
            .map(|setting| (setting.name, origin(setting.name)))
            .partition(|(_, origin)| **origin == Origin::Default);
        let rules = loaded.rules.iter().enumerate().map(|(index, origin)| Key {
            key: format!("target[{index}]"),
            origin: origin.clone(),
        });
        let set = set.into_iter().map(|(name, origin)| Key {
            key: name.to_owned(),
            origin: origin.clone(),
        });
        Self {
            ok: mistakes.is_empty(),
            source: loaded.files.clone(),
            last_loaded: loaded.loaded_at,
            sha256: loaded.sha256.clone(),
            watching,
            valid: set.chain(rules).collect(),
            missing: missing.into_iter().map(|(name, _)| name).collect(),
            unknown: mistakes
                .iter()
                .filter(|mistake| mistake.is_unknown_key())
                .cloned()
                .collect(),
            last_reload: last.cloned(),
        }
    }
}
