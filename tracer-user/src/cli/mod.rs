//! The command line. Arguments are converted to plain types here, so that no other module but the commands depends on
//! clap.

mod attach;
mod config;
mod daemon;
pub mod help;
mod output;
mod replay;
mod run;
mod sampling;

use std::{ffi::OsString, path::PathBuf};

pub use attach::{AttachArgs, AttachRequest};
use clap::{ArgAction, Args, Parser, Subcommand};
pub use config::{ConfigArgs, ConfigRequest, ShowFormat};
pub use daemon::DaemonArgs;
pub use output::{FormArgs, FormatArg, IntervalArgs, ResultArgs};
pub use replay::ReplayArgs;
pub use run::RunArgs;

use crate::session::options::Chatter;

/// Command line of `gmpscope`.
#[derive(Debug, Parser)]
#[command(
    name = "gmpscope",
    version,
    about = "How long the goroutines of a running Go program waited to run",
    long_about = help::ABOUT,
    after_help = help::MAIN_EXAMPLES,
    after_long_help = help::main_sections(),
    max_term_width = 80,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How much to say on stderr.
    #[command(flatten)]
    pub verbosity: Verbosity,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Trace a running process and print its scheduling latencies
    #[command(long_about = help::ATTACH_ABOUT)]
    Attach(Box<AttachArgs>),
    /// Run a command, and show where the time from execve to main.main goes
    #[command(long_about = help::RUN_ABOUT)]
    Run(RunArgs),
    /// Make the result of a recorded capture again
    #[command(long_about = help::REPLAY_ABOUT)]
    Replay(ReplayArgs),
    /// Show what a binary or process is, what can be traced, and at what cost
    Inspect(InspectArgs),
    /// Check kernel features and privileges, and say what to do
    Doctor(DoctorArgs),
    /// Watch every Go process of this host, and serve metrics
    #[command(long_about = help::DAEMON_ABOUT)]
    Daemon(DaemonArgs),
    /// Show and check the daemon's settings
    #[command(long_about = help::CONFIG_ABOUT)]
    Config(ConfigArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print a manual page
    Man(ManArgs),
}

/// `-v`, `-q`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Verbosity {
    /// Say more on stderr: -v what is done, -vv also the kernel side's own
    /// diagnostics
    #[arg(short, long, global = true, display_order = 100, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, display_order = 101)]
    pub quiet: bool,
}

impl Cli {
    /// Returns the logger's filter. The daemon logs more, since its log is its only output.
    pub fn log_level(&self) -> log::LevelFilter {
        let level = self.verbosity.level();
        match self.command {
            Command::Daemon(_) if self.verbosity.verbose > 0 => log::LevelFilter::Debug,
            Command::Daemon(_) if !self.verbosity.quiet => log::LevelFilter::Info,
            _ => level,
        }
    }
}

impl Verbosity {
    /// Returns the logger's filter.
    pub fn level(self) -> log::LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => log::LevelFilter::Error,
            (false, 0) => log::LevelFilter::Warn,
            (false, 1) => log::LevelFilter::Info,
            (false, _) => log::LevelFilter::Debug,
        }
    }

    /// Whether the kernel side's diagnostics are wanted, too.
    pub fn kernel_logs(self) -> bool {
        self.verbose >= 2
    }

    /// Converts it to the type of the other modules.
    pub fn chatter(self) -> Chatter {
        if self.quiet {
            Chatter::Quiet
        } else {
            Chatter::Normal
        }
    }
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
#[command(after_help = help::INSPECT_EXAMPLES, after_long_help = help::inspect_sections())]
pub struct InspectArgs {
    /// A process id, or the path of a binary (a file named like a number: ./123)
    #[arg(value_name = "PID|FILE")]
    pub target: OsString,
    /// How and where the answer is written.
    #[command(flatten)]
    pub result: ResultArgs,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = help::DOCTOR_EXAMPLES, after_long_help = help::doctor_sections())]
pub struct DoctorArgs {
    /// How the answer is written.
    #[command(flatten)]
    pub form: FormArgs,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = help::COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = help::MAN_EXAMPLES)]
pub struct ManArgs {
    /// Of which command (`config show`, too); without it, of gmpscope as a whole
    pub command: Vec<String>,
}

/// The subject of `inspect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A running process.
    Pid(u32),
    /// A binary on disk.
    File(PathBuf),
}

impl InspectArgs {
    /// Returns the subject: digits alone are a process id, everything else is a path.
    pub fn subject(&self) -> Subject {
        let digits = self
            .target
            .to_str()
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        match digits.and_then(|digits| digits.parse::<u32>().ok()) {
            Some(pid) => Subject::Pid(pid),
            None => Subject::File(PathBuf::from(&self.target)),
        }
    }
}

#[cfg(test)]
mod tests;
