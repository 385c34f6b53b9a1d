//! `gmpscope doctor`.

use crate::{
    cli::DoctorArgs,
    error::{Error, Result},
};

/// Prints the checks of this machine.
///
/// # Errors
/// When `sampled` and `exact` are impossible here.
pub fn run(_args: &DoctorArgs) -> Result<()> {
    Err(Error::failed("`doctor` is being wired up"))
}
