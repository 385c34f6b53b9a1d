//! Descriptors that the event loop waits for.

use std::{io, os::fd::AsRawFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Lets the event loop wait until a descriptor is readable.
///
/// # Errors
/// The descriptor cannot be waited for.
#[allow(
    deprecated,
    reason = "the successor is unsafe to call; what owns its descriptor keeps it open"
)]
pub fn watch<T: AsRawFd>(fd: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
