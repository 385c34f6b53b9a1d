//! The limit on open files: raised for ourselves, and put back for the command.

use std::io;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// How many descriptors a process may have (RLIMIT_NOFILE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    soft: rlim_t,
    hard: rlim_t,
}

impl DescriptorLimit {
    /// Raises our own limit as far as is allowed. Returns what it was before; `None` if it has not changed.
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

    /// Applies the limit to this process. Makes one system call only, so that it may be called between fork and exec.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn apply(self) -> io::Result<()> {
        Ok(setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard)?)
    }
}
