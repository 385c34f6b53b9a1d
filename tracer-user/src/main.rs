//! The binary: see [`tracer_user`] for the library behind it.

use std::{io::Write as _, process::ExitCode};

use clap::Parser;
use tracer_user::{
    cli::Cli,
    commands,
    escape::lines,
    writing::stderr::{self, Stderr},
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut builder = env_logger::Builder::new();
    builder
        // Whoever has probes in other programs waits for nobody, nor for who reads this.
        .target(env_logger::Target::Pipe(Box::new(Stderr)))
        .filter_level(log::LevelFilter::Warn)
        .filter_module("tracer_user", cli.log_level())
        // What the kernel side says of itself.
        .filter_module("gmpscope_ebpf", cli.log_level())
        .format(|out, record| {
            let level = record.level().as_str().to_lowercase();
            writeln!(out, "gmpscope: {level}: {}", lines(&record.args().to_string()))
        })
        .init();
    let code = match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            // What `error.failure` alone tells (an incomplete capture) has no message.
            if !error.message.is_empty() {
                // A log that takes nothing any more changes nothing of the status.
                stderr::push(format!("gmpscope: {}\n", lines(&error.message)).as_bytes());
            }
            error.failure.into()
        }
    };
    stderr::finish();
    code
}
