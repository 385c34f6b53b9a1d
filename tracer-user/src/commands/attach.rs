//! `gmpscope attach`.

use crate::{
    error::{Error, Result},
    session::{options::AttachOptions, runner},
};

/// Traces one process and prints the result.
///
/// # Errors
/// Whatever went wrong, told in full.
pub fn run(options: AttachOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::failed(format!("could not start the event loop: {e}")))?;
    runtime.block_on(runner::run(options))
}
