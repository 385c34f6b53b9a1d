//! Why a target's memory was not observed.

use crate::error::Error;
use crate::process::memory::ReadError;

/// Why nothing was observed. In both cases the target is not, or no longer, the expected one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObserveError {
    /// The target's memory could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A counter of the runtime, which only ever grows, has become smaller.
    #[error(
        "the runtime's counters at {address:#x} went backwards: the process has replaced its program (exec) \
         or is not what its binary says; attach again"
    )]
    Replaced {
        /// Run-time address of `sched.timeToRun`.
        address: u64,
    },
}

impl From<ObserveError> for Error {
    fn from(e: ObserveError) -> Self {
        match e {
            ObserveError::Read(e) => e.into(),
            ObserveError::Replaced { .. } => Error::not_traceable(e.to_string()),
        }
    }
}
