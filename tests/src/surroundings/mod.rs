//! What surrounds a program under test: the CPUs that it may use, processes that compute beside it, and control groups
//! with a quota of CPU time, a weight, or a limit of threads.

pub mod cpus;
pub mod group;
pub mod hierarchy;
pub mod hogs;
pub mod placement;
pub mod quota;

pub use cpus::Cpus;
pub use group::Group;
pub use hierarchy::Hierarchy;
pub use hogs::Hog;
pub use placement::Placement;
pub use quota::Quota;

use std::io;

/// Whether a system call succeeded, which returns 0 then.
fn checked(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
