//! Arguments of `replay`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{FormatArg, Verbosity, attach::ByArg, help};
use crate::{
    duration,
    session::options::{ReplayOptions, SplitBy},
};

/// `gmpscope replay`.
#[derive(Debug, Args)]
#[command(
    after_help = help::REPLAY_EXAMPLES,
    after_long_help = help::replay_sections()
)]
pub struct ReplayArgs {
    /// The recording: what --record of attach or run has written; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Form of the result
    #[arg(
        long,
        value_enum,
        default_value = "text",
        env = "GMPSCOPE_FORMAT",
        hide_env_values = true
    )]
    format: FormatArg,
    /// Write the result to this file; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print also what each period of this length added
    #[arg(
        short, long, value_name = "TIME", value_parser = duration::period,
        env = "GMPSCOPE_INTERVAL", hide_env_values = true
    )]
    interval: Option<Duration>,
    /// Print one histogram per origin (if exact or full was recorded) or creation
    /// site (if sampled or full was)
    #[arg(long, value_enum, env = "GMPSCOPE_BY", hide_env_values = true)]
    by: Option<ByArg>,
}

impl ReplayArgs {
    /// The same in plain types.
    pub fn into_options(self, verbosity: Verbosity) -> ReplayOptions {
        let named = |path: &PathBuf| path.as_os_str() != "-";
        ReplayOptions {
            file: Some(self.file).filter(named),
            format: self.format.into(),
            output: self.output.filter(named),
            interval: self.interval,
            by: self.by.map(SplitBy::from),
            chatter: verbosity.chatter(),
        }
    }
}
