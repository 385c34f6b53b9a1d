//! `gmpscope config`.

use serde::Serialize;
use serde_json::Value;

use super::print;
use crate::{
    cli::{ConfigRequest, ShowFormat},
    daemon::config::{self, Layers, Loaded, Origin, rules, table::SETTINGS, toml_value},
    error::{Error, Result},
    escape::escape,
    output::json,
};

/// Prints the effective values, or looks for mistakes.
///
/// # Errors
/// [`crate::error::Failure::Usage`] with all mistakes.
pub fn run(request: ConfigRequest) -> Result<()> {
    match request {
        ConfigRequest::Show(layers, format) => print(&shown(&load(&layers)?, format)?),
        ConfigRequest::Check(layers) => print(&check_output(&load(&layers)?)),
    }
}

fn load(layers: &Layers) -> Result<Loaded> {
    config::load(layers).map_err(|mistakes| Error::usage(config::describe(&mistakes)))
}

/// Returns the output of `config check` if there is no mistake.
fn check_output(loaded: &Loaded) -> String {
    if loaded.files.is_empty() {
        return format!(
            "no configuration file: neither {} nor {}/*.toml beside it\n",
            config::FILE,
            config::FOLDER
        );
    }
    let lines = loaded
        .files
        .iter()
        .map(|file| format!("ok {}\n", escape(&file.display().to_string())));
    lines.collect()
}

/// The configuration as JSON.
#[derive(Serialize)]
struct Shown<'l> {
    schema: &'static str,
    sha256: &'l str,
    files: Vec<String>,
    settings: Vec<Effective<'l>>,
    targets: Vec<Effective<'l>>,
}

/// An effective value, and where it comes from.
#[derive(Serialize)]
struct Effective<'l> {
    name: String,
    value: Value,
    origin: &'l Origin,
}

fn shown(loaded: &Loaded, format: ShowFormat) -> Result<String> {
    if format == ShowFormat::Toml {
        return Ok(loaded.config.to_toml());
    }
    let settings: Vec<Effective<'_>> = SETTINGS
        .iter()
        .map(|setting| Effective {
            name: setting.name.to_owned(),
            value: setting.value(&loaded.config),
            origin: loaded.origins.get(setting.name).unwrap_or(&Origin::Default),
        })
        .collect();
    let targets: Vec<Effective<'_>> = loaded
        .config
        .target
        .iter()
        .zip(&loaded.rules)
        .enumerate()
        .map(|(index, (rule, origin))| Effective {
            name: format!("target[{index}]"),
            value: Value::Object(
                rules::values(rule)
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
            ),
            origin,
        })
        .collect();
    if format == ShowFormat::Text {
        return Ok(settings.iter().chain(&targets).map(line).collect());
    }
    let shown = Shown {
        schema: "gmpscope.config/1",
        sha256: &loaded.sha256,
        files: loaded
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect(),
        settings,
        targets,
    };
    json::pretty(&shown)
}

fn line(value: &Effective<'_>) -> String {
    format!(
        "{:<24} = {:<18} # {}\n",
        value.name,
        toml_value(&value.value),
        escape(&value.origin.to_string())
    )
}
