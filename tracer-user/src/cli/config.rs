//! Arguments of `config`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{daemon::LayerArgs, help};
use crate::daemon::config::{Files, Layers};

/// `gmpscope config`.
#[derive(Debug, Args)]
#[command(
    after_help = help::CONFIG_EXAMPLES,
    after_long_help = help::config_sections(),
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

/// What is asked about the configuration.
#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print each effective value and where it comes from
    #[command(after_help = help::CONFIG_SHOW_EXAMPLES, after_long_help = help::config_show_sections())]
    Show(ShowArgs),
    /// Find all mistakes
    #[command(after_help = help::CONFIG_CHECK_EXAMPLES, after_long_help = help::config_check_sections())]
    Check(CheckArgs),
}

/// Form of `config show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShowFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// As a configuration file: the form whose SHA-256 logs name
    Toml,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Form of the answer
    #[arg(
        long,
        value_enum,
        env = "GMPSCOPE_FORMAT",
        default_value = "text",
        hide_env_values = true
    )]
    format: ShowFormat,
    #[command(flatten)]
    layers: LayerArgs,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Check these files alone, the later over the earlier; without them, what
    /// the daemon would read
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Check this file, conf.d/*.toml beside it, and the environment
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    config: Option<PathBuf>,
}

/// A request to `config`.
#[derive(Debug)]
pub enum ConfigRequest {
    /// Print the effective values.
    Show(Layers, ShowFormat),
    /// Find mistakes.
    Check(Layers),
}

impl ConfigArgs {
    /// Converts the arguments to plain types.
    pub fn into_request(self) -> ConfigRequest {
        match self.command {
            ConfigCommand::Show(args) => ConfigRequest::Show(args.layers.into_layers(), args.format),
            ConfigCommand::Check(CheckArgs { files, config }) => {
                // Named files may be for another machine, so the environment of this one is not used.
                let environment = || std::env::vars_os().collect();
                ConfigRequest::Check(match (config, files.is_empty()) {
                    (None, false) => Layers {
                        files: Files::These(files),
                        ..Layers::default()
                    },
                    (config, _) => Layers {
                        files: config.map_or(Files::Installed, Files::Config),
                        environment: environment(),
                        ..Layers::default()
                    },
                })
            }
        }
    }
}
