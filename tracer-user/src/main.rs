//! The binary: see [`tracer_user`] for the library behind it.

use std::{io::Write as _, process::ExitCode};

use clap::Parser;
use tracer_user::{
    cli::{Cli, Command},
    commands,
    daemon::stderr::Stderr,
    escape::lines,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut builder = env_logger::Builder::new();
    if let Command::Daemon(_) = cli.command {
        // Its loop waits for nobody, nor for who reads this.
        builder.target(env_logger::Target::Pipe(Box::new(Stderr)));
    }
    builder
        .filter_level(log::LevelFilter::Warn)
        .filter_module("tracer_user", cli.log_level())
        // What the kernel side says of itself.
        .filter_module("gmpscope_ebpf", cli.log_level())
        .format(|out, record| {
            let level = record.level().as_str().to_lowercase();
            writeln!(out, "gmpscope: {level}: {}", lines(&record.args().to_string()))
        })
        .init();
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            // What `error.failure` alone tells (an incomplete capture) has no message.
            if !error.message.is_empty() {
                // A log that takes nothing any more changes nothing of the status.
                let _ = writeln!(std::io::stderr(), "gmpscope: {}", lines(&error.message));
            }
            error.failure.into()
        }
    }
}
