//! `gmpscope replay`.

use crate::{
    error::Result,
    session::{options::ReplayOptions, replay},
};

/// Makes the result of a recorded capture again.
///
/// # Errors
/// The recording cannot be read, or is not complete.
pub fn run(options: &ReplayOptions) -> Result<()> {
    replay::run(options)
}
