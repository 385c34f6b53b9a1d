//! The commands, one short file each: they connect the other modules, and print.

pub mod attach;
mod columns;
pub mod completions;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod inspect;
pub mod man;
pub mod replay;
pub mod run;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Command},
    error::{Error, Result},
    output::sink,
    writing::stderr,
};

/// Runs a command line. Returns 0, or the status of the command that `run` ran.
///
/// # Errors
/// Whatever the command returns; the caller converts it to the exit status.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let verbosity = cli.verbosity;
    let done = match cli.command {
        Command::Attach(args) => return attach::run(args.into_request(verbosity)?),
        Command::Run(args) => return run::run(args.into_options(verbosity)?),
        Command::Replay(args) => replay::run(&args.into_options(verbosity)),
        Command::Inspect(args) => inspect::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Daemon(args) => return daemon::run(args.into_layers()),
        Command::Config(args) => config::run(args.into_request()),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Runs a future to its end on this thread.
fn block_on<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    // So that a slow reader of stderr does not block the event loop.
    stderr::start().map_err(|e| Error::failed(format!("could not start a thread: {e}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::failed(format!("could not start the event loop: {e}")))?;
    runtime.block_on(what)
}

/// Writes one text to stdout; a reader that is gone is not an error.
fn print(text: &str) -> Result<()> {
    sink::print(text)
}
