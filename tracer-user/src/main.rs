//! The binary: see [`tracer_user`] for the library behind it.

use std::process::ExitCode;

use clap::Parser;
use tracer_user::{cli::Cli, commands};

fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .filter_module("tracer_user", cli.verbosity.level())
        // What the kernel side says of itself.
        .filter_module("gmpscope_ebpf", cli.verbosity.level())
        .format_timestamp(None)
        .format_target(false)
        .init();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What `error.failure` alone tells (an incomplete capture) has no message.
            if !error.message.is_empty() {
                eprintln!("gmpscope: {}", error.message);
            }
            error.failure.into()
        }
    }
}
