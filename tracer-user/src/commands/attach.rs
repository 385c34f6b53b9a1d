//! `gmpscope attach`.

use std::process::ExitCode;

use super::block_on;
use crate::{
    cli::AttachRequest,
    error::Result,
    session::{attach::runner, start},
};

/// Traces one process, or the next starts of a binary, and prints the result.
///
/// # Errors
/// The capture failed, or is not complete.
pub fn run(request: AttachRequest) -> Result<ExitCode> {
    match request {
        AttachRequest::Running(options) => block_on(runner::run(options)).map(|()| ExitCode::SUCCESS),
        AttachRequest::Next(options) => block_on(start::begin::next(options)),
    }
}
