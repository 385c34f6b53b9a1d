//! `gmpscope daemon`.

use std::{process::ExitCode, time::Duration};

use crate::{
    daemon::{self, config::Layers},
    error::{Error, Result},
    writing::stderr,
};

/// Threads that look into files and processes and make pages, beside the one that does everything else.
const THREADS: usize = 64;
/// How long what they are at may hold up our end.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// Watches the host until it is told to end.
///
/// # Errors
/// The configuration has mistakes, or privileges are missing.
pub fn run(layers: Layers) -> Result<ExitCode> {
    share_one_heap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .build()
        .map_err(|e| Error::failed(format!("could not start the event loop: {e}")))?;
    stderr::start().map_err(|e| Error::failed(format!("could not start a thread: {e}")))?;
    let ended = runtime.block_on(daemon::run(layers));
    runtime.shutdown_timeout(LAST_LOOK);
    stderr::finish();
    ended.map(|()| ExitCode::SUCCESS)
}

/// Has all threads allocate from one heap. glibc gives each thread an arena of its own, none of which it hands back
/// (mallopt(3), M_ARENA_MAX): with many processes coming and going that trebles what is resident, and nothing here
/// allocates so often that threads would wait for each other.
fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes numbers only, and is called before the first thread is made.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
