//! The binary; [`tracer_user`] is its library.

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
        // A loop that has probes in other programs must not wait for the reader of the log.
        .target(env_logger::Target::Pipe(Box::new(Stderr)))
        .filter_level(log::LevelFilter::Warn)
        .filter_module("tracer_user", cli.log_level())
        // The kernel side's own log.
        .filter_module("gmpscope_ebpf", cli.log_level())
        .format(|out, record| {
            let level = record.level().as_str().to_lowercase();
            writeln!(out, "gmpscope: {level}: {}", lines(&record.args().to_string()))
        })
        .init();
    let code = match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            // An incomplete capture has no message: its exit status says everything.
            if !error.message.is_empty() {
                // A log that cannot be written does not change the exit status.
                stderr::push(format!("gmpscope: {}\n", lines(&error.message)).as_bytes());
            }
            error.failure.into()
        }
    };
    stderr::finish();
    code
}
