//! The commands: one short file each. They join the rooms and print.

pub mod attach;
mod columns;
pub mod completions;
pub mod doctor;
pub mod inspect;
pub mod man;

use crate::{
    cli::{Cli, Command},
    error::Result,
    output::sink::Sink,
};

/// Runs one command line to its end.
///
/// # Errors
/// Whatever the command says; the caller turns it into the exit status.
pub fn run(cli: Cli) -> Result<()> {
    let verbosity = cli.verbosity;
    match cli.command {
        Command::Attach(args) => attach::run(args.into_options(verbosity)?),
        Command::Inspect(args) => inspect::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// Writes one text to stdout; a reader that is gone is no error.
fn print(text: &str) -> Result<()> {
    Sink::open(None)?.write(text).map(|_| ())
}
