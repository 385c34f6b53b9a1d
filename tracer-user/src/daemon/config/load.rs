//! Joins the layers to one configuration.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use jiff::Timestamp;

use super::{
    Config, document,
    layers::{Layers, Texts},
    mistake::{self, Kind, Mistake},
    origin::Origin,
    rules,
    table::{self, SETTINGS, Setting},
    value::Written,
};

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Every effective value.
    pub config: Arc<Config>,
    /// Where the value of each setting comes from.
    pub origins: BTreeMap<&'static str, Origin>,
    /// Where each of `config.target` comes from.
    pub rules: Vec<Origin>,
    /// SHA-256 of [`Config::to_toml`], in hexadecimal digits.
    pub sha256: String,
    /// When it was loaded.
    pub loaded_at: Timestamp,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Reads all layers.
///
/// # Errors
/// Every mistake of every layer, also in values that a later layer would have replaced.
pub fn load(layers: &Layers) -> Result<Loaded, Vec<Mistake>> {
    join(layers, layers.files.read())
}

/// Joins the layers, whose files are `texts`.
pub(super) fn join(layers: &Layers, texts: Texts) -> Result<Loaded, Vec<Mistake>> {
    let mut draft = Draft {
        config: Config::default(),
        origins: SETTINGS
            .iter()
            .map(|setting| (setting.name, Origin::Default))
            .collect(),
        rules: Vec::new(),
        mistakes: texts.mistakes,
    };
    for (path, text) in &texts.files {
        let document = document::read(path, text, &mut draft.config);
        draft.origins.extend(document.set);
        draft.mistakes.extend(document.mistakes);
        // The first rule that matches decides, so the rules of a later file come first.
        draft
            .config
            .target
            .splice(0..0, document.rules.iter().map(|(rule, _)| rule.clone()));
        draft
            .rules
            .splice(0..0, document.rules.into_iter().map(|(_, origin)| origin));
    }
    draft.too_many_rules();
    draft.environment(layers);
    for (name, text) in &layers.flags {
        if let Some(setting) = table::find(name) {
            draft.set(setting, text, Origin::Flag(setting.flag()));
        }
    }
    draft.finish(texts.files.into_iter().map(|(path, _)| path).collect())
}

/// A configuration that is being made, layer by layer.
struct Draft {
    config: Config,
    origins: BTreeMap<&'static str, Origin>,
    rules: Vec<Origin>,
    mistakes: Vec<Mistake>,
}

impl Draft {
    fn environment(&mut self, layers: &Layers) {
        for (name, value) in &layers.environment {
            let Some(name) = name.to_str() else { continue };
            let origin = Origin::Environment(name.to_owned());
            match SETTINGS.iter().find(|setting| setting.variable() == name) {
                Some(setting) => match value.to_str() {
                    Some(text) => self.set(setting, text, origin),
                    None => self.wrong(Kind::Value, &origin, setting, "its value is not UTF-8"),
                },
                None if is_meant(name) => {
                    let variables: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
                    let written = name.to_lowercase();
                    let lower: Vec<String> = variables.iter().map(|name| name.to_lowercase()).collect();
                    let names: Vec<&str> = lower.iter().map(String::as_str).collect();
                    let problem = match super::suggest::nearest(&written, names.into_iter()) {
                        Some(meant) => {
                            format!("no setting has this name: did you mean {}?", meant.to_uppercase())
                        }
                        None => "no setting has this name: `gmpscope daemon --help` lists all".to_owned(),
                    };
                    self.mistakes
                        .push(Mistake::new(Kind::UnknownKey, &origin, None, &problem));
                }
                None => {}
            }
        }
    }

    fn set(&mut self, setting: &'static Setting, text: &str, origin: Origin) {
        match setting.set(&mut self.config, Written::Bare(text)) {
            Ok(()) => {
                self.origins.insert(setting.name, origin);
            }
            Err(problems) => {
                for problem in problems {
                    self.wrong(Kind::Value, &origin, setting, &problem.message);
                }
            }
        }
    }

    fn wrong(&mut self, kind: Kind, origin: &Origin, setting: &Setting, problem: &str) {
        self.mistakes
            .push(Mistake::new(kind, origin, Some(setting.name), problem));
    }

    /// Applies to all files together the limit that each file has.
    fn too_many_rules(&mut self) {
        if let Some(origin) = self.rules.get(rules::MOST) {
            let problem = format!("all files together can have {} rules", rules::MOST);
            self.mistakes
                .push(Mistake::new(Kind::Value, origin, Some("target"), &problem));
        }
    }

    fn finish(self, files: Vec<PathBuf>) -> Result<Loaded, Vec<Mistake>> {
        if !self.mistakes.is_empty() {
            return Err(mistake::bounded(self.mistakes));
        }
        Ok(Loaded {
            sha256: self.config.sha256(),
            config: Arc::new(self.config),
            origins: self.origins,
            rules: self.rules,
            loaded_at: Timestamp::now(),
            files,
        })
    }
}

/// Whether an unknown variable was meant to be a setting: it begins with the name of a table. Kubernetes sets similar
/// ones for a service that is called gmpscope-metrics (GMPSCOPE_METRICS_PORT_9435_TCP, and so on).
fn is_meant(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("GMPSCOPE_") else {
        return false;
    };
    let is_of_a_service = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"]
        .iter()
        .any(|part| rest.contains(part));
    let begins_as_a_table = SETTINGS.iter().any(|setting| {
        rest.strip_prefix(&setting.group().to_uppercase())
            .is_some_and(|rest| rest.starts_with('_'))
    });
    begins_as_a_table && !is_of_a_service
}
