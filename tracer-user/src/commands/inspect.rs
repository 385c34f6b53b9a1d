//! `gmpscope inspect PID|FILE`.

use crate::{
    cli::InspectArgs,
    error::{Error, Result},
};

/// Prints what the subject is and what can be traced.
///
/// # Errors
/// When it is not a traceable Go binary or process.
pub fn run(args: &InspectArgs) -> Result<()> {
    Err(Error::failed(format!(
        "`inspect` of {:?} is being wired up",
        args.subject()
    )))
}
