//! `gmpscope daemon`.

use std::{process::ExitCode, time::Duration};

use crate::{
    daemon::{self, config::Layers},
    error::{Error, Result},
};

/// Threads that look into files and processes, beside the one that does everything else.
const LOOKING_THREADS: usize = 4;
/// How long what they are at may hold up our end.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// Watches the host until it is told to end.
///
/// # Errors
/// The configuration has mistakes, or privileges are missing.
pub fn run(layers: Layers) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKING_THREADS)
        .build()
        .map_err(|e| Error::failed(format!("could not start the event loop: {e}")))?;
    let ended = runtime.block_on(daemon::run(layers));
    runtime.shutdown_timeout(LAST_LOOK);
    ended.map(|()| ExitCode::SUCCESS)
}
