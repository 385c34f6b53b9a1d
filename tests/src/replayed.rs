//! Recordings, read by a consumer of a test through gmpscope's own replay.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tracer_user::output::options::{Chatter, Format};
use tracer_user::session::options::ReplayOptions;
use tracer_user::session::replay::{Replayed, replay};
use tracer_user::stream::Consumer;
use tracer_user::stream::recording::Reader;

/// Has a consumer take a whole recording.
///
/// # Errors
/// It cannot be read, or has no end.
pub fn through(recording: &Path, consumer: &mut dyn Consumer) -> Result<()> {
    let name = recording.display().to_string();
    let file = File::open(recording).with_context(|| format!("opening {name}"))?;
    let reader = Reader::new(BufReader::new(file), &name)?;
    let options = ReplayOptions {
        file: None,
        format: Format::Json,
        output: None,
        interval: None,
        by: None,
        chatter: Chatter::Quiet,
    };
    let replayed = replay(reader, &options, consumer)?;
    ensure!(
        matches!(replayed, Replayed::Concluded { .. }),
        "{name} has no end"
    );
    Ok(())
}
