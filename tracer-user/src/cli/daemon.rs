//! Arguments of `daemon`, and what `config` shares with it: one option per setting, made from the table of settings.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::help;
use crate::daemon::config::{Config, Files, Layers, table::SETTINGS};

/// `gmpscope daemon`.
#[derive(Debug, Args)]
#[command(after_help = help::DAEMON_EXAMPLES, after_long_help = help::daemon_sections())]
pub struct DaemonArgs {
    #[command(flatten)]
    layers: LayerArgs,
}

impl DaemonArgs {
    /// Returns the layers of its settings.
    pub fn into_layers(self) -> Layers {
        self.layers.into_layers()
    }
}

/// Where settings are.
#[derive(Debug, Args)]
pub struct LayerArgs {
    /// Read this file, and conf.d/*.toml beside it, instead of those in
    /// /etc/gmpscope
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingArgs,
}

impl LayerArgs {
    /// Returns the layers, including the environment of this process.
    pub fn into_layers(self) -> Layers {
        Layers {
            files: self.config.map_or(Files::Installed, Files::Config),
            environment: std::env::vars_os().collect(),
            flags: self.settings.flags,
        }
    }
}

/// One option per setting. Values are parsed together with the other layers, so that all mistakes are reported at once.
#[derive(Debug)]
struct SettingArgs {
    flags: Vec<(&'static str, String)>,
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = SETTINGS.iter().filter_map(|setting| {
            let value: &String = matches.get_one(setting.name)?;
            Some((setting.name, value.clone()))
        });
        Ok(Self {
            flags: given.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        let defaults = Config::default();
        let options = SETTINGS.iter().map(|setting| {
            let shown = setting.bare(&defaults);
            let default = match shown.as_str() {
                "" => String::new(),
                shown => format!("\n[default: {shown}]"),
            };
            let allowed = match setting.allowed() {
                allowed if allowed == setting.value_name() => String::new(),
                allowed => format!(": {allowed}"),
            };
            Arg::new(setting.name)
                .long(setting.option())
                .value_name(setting.value_name())
                .help_heading("Settings")
                .help(setting.help)
                .long_help(format!(
                    "{}{allowed}\n\n[env: {}]{default}",
                    setting.help,
                    setting.variable()
                ))
                // `--budget-target -1%` is reported as a wrong value, not as an unknown option.
                .allow_hyphen_values(true)
        });
        command.args(options)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
