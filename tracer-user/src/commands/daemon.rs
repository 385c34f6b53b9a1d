//! `gmpscope daemon`.

use std::{process::ExitCode, time::Duration};

use crate::{
    daemon::{self, config::Layers},
    error::{Error, Result},
    writing::stderr,
};

/// Most threads that analyse files and processes and make pages, besides the one that does everything else.
const THREADS: usize = 64;
/// How long to wait at the end for what these threads are doing.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// Watches the host until a signal ends it.
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
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    stderr::finish();
    ended.map(|()| ExitCode::SUCCESS)
}

/// Makes all threads allocate from one heap. By default, glibc gives each thread a separate arena and does not return
/// its memory (mallopt(3), M_ARENA_MAX): with many processes coming and going that trebles the resident memory, and no
/// thread here allocates so often that others would wait for it.
fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes numbers only, and is called before the first thread is started.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
