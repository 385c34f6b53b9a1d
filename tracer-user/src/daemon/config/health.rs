//! The page `/health/config`: the state of the configuration, without any value.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::{Loaded, Mistake, Origin, reload::Reload, table::SETTINGS};

/// The configuration in force, and the last reload.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// Whether the configuration had no mistake when it was last read.
    pub ok: bool,
    /// Files that the configuration in force was read from.
    pub source: Vec<PathBuf>,
    /// When it was loaded.
    pub last_loaded: Timestamp,
    /// [`Loaded::sha256`], as in the log.
    pub sha256: String,
    /// Whether the files are watched; if not, SIGHUP reloads them.
    pub watching: bool,
    /// Settings that are set, and where.
    pub valid: Vec<Key>,
    /// Settings that are not set, and have their defaults.
    pub missing: Vec<&'static str>,
    /// Keys in what was last read that are not settings.
    pub unknown: Vec<Mistake>,
    /// The last reload, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reload: Option<Reload>,
}

/// One setting, or rule.
#[derive(Clone, Debug, Serialize)]
pub struct Key {
    /// Its name, such as `http.listen` or `target[0]`.
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
