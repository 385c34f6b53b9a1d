//! The limit on open files: raised for ourselves, as it was for the command.

use std::io;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// How many descriptors a process may have (RLIMIT_NOFILE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    soft: rlim_t,
    hard: rlim_t,
}

impl DescriptorLimit {
    /// Raises ours as far as it may be; what it was before. `None` if it stays as it is.
    pub fn raise() -> Option<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        if soft >= hard {
            return None;
        }
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .inspect_err(|e| log::info!("RLIMIT_NOFILE stays at {soft}: {e}"))
            .ok()?;
        Some(Self { soft, hard })
    }

    /// Puts it in force for this process. Makes one system call, so that it may be called between fork and exec.
    ///
    /// # Errors
    /// The kernel's.
    pub fn apply(self) -> io::Result<()> {
        Ok(setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard)?)
    }
}
