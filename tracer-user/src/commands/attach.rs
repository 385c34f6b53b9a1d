//! `gmpscope attach`.

use crate::{
    error::{Error, Result},
    session::options::AttachOptions,
};

/// Traces one process and prints the result.
///
/// # Errors
/// Whatever went wrong, told in full.
pub fn run(options: AttachOptions) -> Result<()> {
    log::debug!("asked for: {options:?}");
    Err(Error::failed("`attach` is being wired up"))
}
