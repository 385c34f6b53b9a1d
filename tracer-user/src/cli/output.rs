//! Options that several commands share: how and where a result is written.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::{duration, output::options::Format};

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// For people
    Text,
    /// For programs
    Json,
}

impl From<FormatArg> for Format {
    fn from(f: FormatArg) -> Self {
        match f {
            FormatArg::Text => Format::Text,
            FormatArg::Json => Format::Json,
        }
    }
}

/// The form of a result.
#[derive(Clone, Copy, Debug, Args)]
pub struct FormArgs {
    /// Form of the result
    #[arg(
        long,
        value_enum,
        default_value = "text",
        env = "GMPSCOPE_FORMAT",
        hide_env_values = true
    )]
    pub format: FormatArg,
}

/// The form of a result, and where it is written.
#[derive(Debug, Args)]
pub struct ResultArgs {
    #[command(flatten)]
    form: FormArgs,
    /// Write the result to this file; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ResultArgs {
    /// Returns the format of the result.
    pub fn format(&self) -> FormatArg {
        self.form.format
    }

    /// Returns the file that was named; `None` for stdout.
    pub fn file(&self) -> Option<&PathBuf> {
        self.output.as_ref().filter(|path| path.as_os_str() != "-")
    }

    /// Whether the result goes to stdout.
    pub fn is_stdout(&self) -> bool {
        self.file().is_none()
    }
}

/// A result in pieces.
#[derive(Clone, Copy, Debug, Args)]
pub struct IntervalArgs {
    /// Print also what each period of this length added
    #[arg(
        short, long, value_name = "TIME", value_parser = duration::period,
        env = "GMPSCOPE_INTERVAL", hide_env_values = true
    )]
    pub interval: Option<Duration>,
}
