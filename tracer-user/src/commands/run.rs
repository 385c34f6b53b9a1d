//! `gmpscope run`.

use std::process::ExitCode;

use super::block_on;
use crate::{error::Result, session::options::RunOptions, session::start::begin};

/// Runs a command, traces its start, and ends with its status.
///
/// # Errors
/// The command was not started.
pub fn run(options: RunOptions) -> Result<ExitCode> {
    block_on(begin::run(options))
}
