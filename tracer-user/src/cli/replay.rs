//! Arguments of `replay`.

use std::path::PathBuf;

use clap::Args;

use super::{
    Verbosity,
    attach::ByArg,
    help,
    output::{IntervalArgs, ResultArgs},
};
use crate::session::options::{ReplayOptions, SplitBy};

/// `gmpscope replay`.
#[derive(Debug, Args)]
#[command(
    after_help = help::REPLAY_EXAMPLES,
    after_long_help = help::replay_sections()
)]
pub struct ReplayArgs {
    /// The recording: what --record of attach or run has written; or the JSON of
    /// a capture; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    result: ResultArgs,
    #[command(flatten)]
    interval: IntervalArgs,
    /// Print one histogram per origin (if exact or full was recorded), creation
    /// site (if sampled or full was), cause or wait reason (if full was)
    #[arg(long, value_enum, env = "GMPSCOPE_BY", hide_env_values = true)]
    by: Option<ByArg>,
}

impl ReplayArgs {
    /// Converts the arguments to plain types.
    pub fn into_options(self, verbosity: Verbosity) -> ReplayOptions {
        ReplayOptions {
            format: self.result.format().into(),
            output: self.result.file().cloned(),
            file: Some(self.file).filter(|path| path.as_os_str() != "-"),
            interval: self.interval.interval,
            by: self.by.map(SplitBy::from),
            chatter: verbosity.chatter(),
        }
    }
}
