//! `replay`: what a capture printed, made again: from its recording, or from the JSON that it wrote.

mod document;
mod recording;

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

pub use recording::{Replayed, replay};

use super::options::{ReplayOptions, SplitBy};
use crate::{
    error::{Error, Result},
    escape::Untrusted,
    output::{
        options::{Chatter, RenderOptions},
        printer::Printer,
        sink::Sink,
    },
    plan::Mode,
    stream::recording::Reader,
};

/// Most goroutines, Ps and threads of a recording that was written by us.
const MOST_KNOWN: usize = 1 << 24;

/// Prints the result of a recording, or of a capture's JSON.
///
/// # Errors
/// It cannot be read, or is neither; [`Error::incomplete`] where the result was printed but is not whole.
pub fn run(options: &ReplayOptions) -> Result<()> {
    let (mut file, name): (Box<dyn BufRead>, String) = match &options.file {
        None => (Box::new(io::stdin().lock()), "the recording on stdin".to_owned()),
        Some(path) => {
            let name = Untrusted::path(path).to_string();
            let file = File::open(path)
                .map_err(|e| Error::failed(format!("the recording {name} cannot be opened: {e}")))?;
            (Box::new(BufReader::new(file)), name)
        }
    };
    let is_json = file.fill_buf().is_ok_and(document::looks_like_json);
    let sink = || -> Result<Sink> { Ok(Sink::open(options.output.as_deref())?.waiting()) };
    let (printer, replayed) = if is_json {
        document::print(file, &name, options, || Ok(printer(options, sink()?, &name)))?
    } else {
        let reader = Reader::new(file, &name)?;
        let mut printer = printer(options, sink()?, &name);
        let replayed = replay(reader, options, &mut printer)?;
        (printer, replayed)
    };
    match replayed {
        // The reader has all that it wanted.
        Replayed::ReaderGone => Ok(()),
        Replayed::Concluded { is_complete } => {
            printer.finish_now()?;
            match is_complete {
                true => Ok(()),
                false => Err(Error::incomplete()),
            }
        }
    }
}

/// Returns the consumer that prints a replay into `sink`; `name` is what errors call the recording, which may be hostile.
pub fn printer(options: &ReplayOptions, sink: Sink, name: &str) -> Printer {
    let render = RenderOptions {
        format: options.format,
        by: options.by,
        by_interval: options.interval.is_some(),
        chatter: Chatter::Quiet,
        progress: None,
    };
    Printer::new(render, sink).of_recording(name, MOST_KNOWN)
}

/// Checks that a capture in `mode` has what waits are to be split by.
fn can_be_split(by: Option<SplitBy>, mode: Mode, name: &str) -> Result<()> {
    match (by, mode) {
        (Some(SplitBy::Origin), Mode::Passive | Mode::Sampled) => Err(Error::usage(format!(
            "--by origin needs a recording of --mode exact or full, and {name} is of {mode}"
        ))),
        (Some(SplitBy::CreationSite), Mode::Exact) => Err(Error::usage(format!(
            "--by creation-site needs a recording of --mode sampled or full, and {name} is of exact"
        ))),
        (None, _) | (_, Mode::Full) => Ok(()),
        (Some(SplitBy::Cause), _) => Err(Error::usage(format!(
            "--by cause needs a recording of --mode full, and {name} is of {mode}"
        ))),
        (Some(SplitBy::WaitReason), _) => Err(Error::usage(format!(
            "--by wait-reason needs a recording of --mode full, and {name} is of {mode}"
        ))),
        (Some(SplitBy::Origin | SplitBy::CreationSite), _) => Ok(()),
    }
}
