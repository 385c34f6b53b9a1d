//! Arguments of `run`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;

use super::{
    Verbosity,
    attach::{ByArg, ModeArg, check_distinct_files, latencies},
    help,
    output::{FormArgs, IntervalArgs},
};
use crate::{
    duration,
    error::{Error, Result},
    session::options::{OutputOptions, RunOptions},
};

/// `gmpscope run`.
#[derive(Debug, Args)]
#[command(
    after_help = help::RUN_EXAMPLES,
    after_long_help = help::run_sections()
)]
pub struct RunArgs {
    /// Stop tracing (not the command) after so long
    #[arg(
        short, long, value_name = "TIME", value_parser = duration::positive,
        env = "GMPSCOPE_DURATION", hide_env_values = true
    )]
    duration: Option<Duration>,
    /// Trace also its scheduling latencies, from main.main on, until it ends
    #[arg(
        short,
        long,
        value_enum,
        env = "GMPSCOPE_MODE",
        hide_env_values = true,
        conflicts_with_all = ["repeat", "follow"]
    )]
    mode: Option<ModeArg>,
    /// With --mode: print each wait of at least this length as it ends
    #[arg(
        short, long, value_name = "TIME", value_parser = duration::positive, requires = "mode",
        env = "GMPSCOPE_SLOWER", hide_env_values = true
    )]
    slower: Option<Duration>,
    /// With --mode: one histogram per origin (exact, full), creation site (sampled,
    /// full), cause or wait reason (full)
    #[arg(
        long,
        value_enum,
        requires = "mode",
        env = "GMPSCOPE_BY",
        hide_env_values = true
    )]
    by: Option<ByArg>,
    /// Run it so many times, one after the other, and show each phase's times
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repeat: u32,
    /// Trace also the Go programs that it starts in turn, and those that they
    /// start; it need not be a Go program itself
    ///
    /// Ends when the command does. Meanwhile each program that is executed on
    /// this host waits for an answer of gmpscope's: see OVERHEAD. Needs
    /// CAP_SYS_ADMIN.
    #[arg(long)]
    follow: bool,
    /// Run it as this user (name or number); default: the invoking user, also
    /// under sudo
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    form: FormArgs,
    /// Write the result to this file; default: stderr
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Record the capture into this file, too, from which `gmpscope replay` makes
    /// the same result
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    interval: IntervalArgs,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

impl RunArgs {
    /// Converts the arguments to plain types.
    ///
    /// # Errors
    /// [`crate::error::Failure::Usage`] if the output would be mixed with the command's own.
    pub fn into_options(self, verbosity: Verbosity) -> Result<RunOptions> {
        if self.output.as_ref().is_some_and(|path| path.as_os_str() == "-") {
            return Err(Error::usage(
                "-o - would mix the result with the command's own output: leave -o out to have it on stderr, or \
                 name a file",
            ));
        }
        if self.record.as_ref().is_some_and(|path| path.as_os_str() == "-") {
            return Err(Error::usage(
                "--record - would mix the recording with the command's own output: name a file",
            ));
        }
        check_distinct_files(self.record.as_ref(), self.output.as_ref())?;
        let latencies = self
            .mode
            .map(|mode| latencies(mode, self.slower, self.by))
            .transpose()?;
        Ok(RunOptions {
            latencies,
            command: self.command,
            user: self.user,
            repeat: self.repeat,
            follow: self.follow,
            duration: self.duration,
            output: OutputOptions {
                format: self.form.format.into(),
                path: self.output,
                record: self.record,
                interval: self.interval.interval,
                chatter: verbosity.chatter(),
            },
        })
    }
}
