//! `gmpscope daemon`.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::block_on;
use crate::{
    daemon::config::{Layers, Reloader},
    error::{Error, Result},
};

/// Holds the configuration, until it is told to end.
///
/// # Errors
/// The configuration has mistakes.
pub fn run(layers: Layers) -> Result<ExitCode> {
    block_on(async {
        let failed = |cause| Error::failed(format!("signals cannot be received: {cause}"));
        let mut end = signal(SignalKind::terminate()).map_err(failed)?;
        let mut reloader = Reloader::start(layers)?;
        loop {
            tokio::select! {
                _ = end.recv() => return Ok(ExitCode::SUCCESS),
                trigger = reloader.due() => drop(reloader.reload(trigger)),
            }
        }
    })
}
