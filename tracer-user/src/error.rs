//! Errors, with exit statuses that scripts can distinguish.

use std::process::ExitCode;

/// Why a command failed. The numbers are exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// Any failure that is not one of the others.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// The target cannot be traced: not Go, gone before we started, unsupported.
    NotTraceable = 3,
    /// Not enough privilege, or the kernel lacks a feature.
    NotPermitted = 4,
    /// Captured, but incomplete: events lost, or the target died early.
    Incomplete = 5,
    /// `run` failed before the command was started (as in timeout(1)).
    NotStarted = 125,
    /// `run` found the command, but could not execute it.
    NotExecutable = 126,
    /// `run` did not find the command.
    NotFound = 127,
}

impl From<Failure> for ExitCode {
    fn from(f: Failure) -> Self {
        ExitCode::from(f as u8)
    }
}

/// An error of any room of the library. Its message is complete: what failed, on what, why, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The exit status that it leads to.
    pub failure: Failure,
    /// The whole message.
    pub message: String,
}

impl Error {
    /// An error that ends with exit status 3.
    pub fn not_traceable(message: impl Into<String>) -> Self {
        Self {
            failure: Failure::NotTraceable,
            message: message.into(),
        }
    }

    /// An error that ends with exit status 4.
    pub fn not_permitted(message: impl Into<String>) -> Self {
        Self {
            failure: Failure::NotPermitted,
            message: message.into(),
        }
    }

    /// An error that ends with exit status 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            failure: Failure::Usage,
            message: message.into(),
        }
    }

    /// An error that ends with exit status 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            failure: Failure::Failed,
            message: message.into(),
        }
    }

    /// An error that ends with exit status 5, without a message: the result itself says what is missing.
    pub fn incomplete() -> Self {
        Self {
            failure: Failure::Incomplete,
            message: String::new(),
        }
    }
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
