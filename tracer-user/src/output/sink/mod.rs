//! The destination of output: stdout, stderr, or a file. Only [`Sink::finish_now`] waits for the reader: see
//! [`crate::writing`].

use std::io::{self, IsTerminal, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use std::{future::Future, pin::Pin};

use crate::error::{Error, Result};
use crate::escape::Untrusted;
use crate::stream::{Closing, Flow};
use crate::writing::file::{OutputFile, Replaced, Streamed};
use crate::writing::stderr;
use crate::writing::writer::{Trouble, Writer};

/// Most bytes of lines that wait for their reader: some ten thousand slow waits.
const MOST_WAITING: usize = 2 << 20;
/// How long to wait until the lines of a capture that failed are written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// An open output. Lines are written while a capture runs, and dropped if their reader does not keep up; the result is
/// written at the end, and never dropped.
#[derive(Debug)]
pub struct Sink {
    /// The destination, until a writer takes it.
    place: Option<Place>,
    writer: Option<Writer>,
    /// A result that will replace the contents of a file.
    held: Option<Vec<u8>>,
    is_terminal: bool,
    /// Whether it is a regular file, of which only whole chunks are kept.
    is_regular: bool,
    waits: bool,
    dropped: u64,
    name: String,
}

#[derive(Debug)]
enum Place {
    Stdout,
    Stderr,
    File(OutputFile),
}

impl Sink {
    /// Opens the output: stdout for `None` and for `-`. A file that cannot be written fails here, before anything was
    /// captured; it keeps its contents until the first line, or until [`finish`](Self::finish).
    ///
    /// # Errors
    /// The file cannot be opened, or created.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Self::new(Place::Stdout, io::stdout().is_terminal(), "stdout"));
        };
        let name = Untrusted::path(path).to_string();
        let file = OutputFile::open(path).map_err(|e| {
            Error::failed(format!(
                "{} cannot be written: {e}; choose another file with -o",
                show(&name)
            ))
        })?;
        let is_terminal = file.file().is_terminal();
        Ok(Self::new(Place::File(file), is_terminal, &name))
    }

    /// Returns stderr, for what must not be mixed with the output of a command.
    pub fn stderr() -> Self {
        Self::new(Place::Stderr, io::stderr().is_terminal(), "stderr")
    }

    fn new(place: Place, is_terminal: bool, name: &str) -> Self {
        Self {
            is_regular: matches!(&place, Place::File(file) if file.is_regular()),
            place: Some(place),
            writer: None,
            held: None,
            is_terminal,
            waits: false,
            dropped: 0,
            name: name.to_owned(),
        }
    }

    /// Makes it wait for its reader, so that nothing is dropped. For callers that have nothing attached.
    #[must_use]
    pub fn waiting(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Returns how many pieces were dropped because nobody read them in time.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Writes a piece of text while the capture runs.
    ///
    /// # Errors
    /// Earlier text could not be written: no space, or an error of the device. A reader that is gone is not an error.
    pub fn line(&mut self, text: &str) -> Result<Flow> {
        let chunk = text.as_bytes().to_vec();
        let taken = if self.is_stderr() {
            stderr::offer(&chunk)
        } else {
            let (waits, writer) = (self.waits, self.writer()?);
            match waits {
                true => {
                    writer.offer_in_time(chunk, MOST_WAITING);
                    true
                }
                false => writer.offer(chunk, MOST_WAITING),
            }
        };
        self.dropped += u64::from(!taken);
        self.flow()
    }

    /// Writes the result, however much waits. A file without lines gets it by [`finish`](Self::finish).
    ///
    /// # Errors
    /// See [`line`](Self::line).
    pub fn result(&mut self, text: &str) -> Result<Flow> {
        let chunk = text.as_bytes().to_vec();
        match &self.place {
            Some(Place::Stderr) => stderr::push(&chunk),
            Some(Place::File(_)) if self.is_regular => {
                self.held.get_or_insert_default().extend(chunk);
            }
            _ if self.is_regular => self.writer()?.push(chunk),
            _ => self.writer()?.push_in_pieces(&chunk),
        }
        self.flow()
    }

    /// Returns whether anybody still reads, as far as is known by now.
    ///
    /// # Errors
    /// See [`line`](Self::line).
    pub fn flow(&self) -> Result<Flow> {
        let trouble = match self.is_stderr() {
            true => stderr::failure(),
            false => self.writer.as_ref().and_then(Writer::failure),
        };
        match trouble {
            Some(trouble) => flow_of(&trouble, &self.name),
            None => Ok(Flow::Written),
        }
    }

    /// Ends the output; a file without lines gets its result. If this is not called, such a file keeps its contents.
    /// Returns what waits until all is written.
    ///
    /// # Errors
    /// The writer's thread could not be started.
    pub fn finish(mut self) -> Result<ClosingSink> {
        if let (Some(text), Some(Place::File(_))) = (self.held.take(), &self.place)
            && let Some(Place::File(file)) = self.place.take()
        {
            let writer = Writer::start("output", Replaced::new(file)).map_err(|e| self.failed(&e))?;
            writer.push(text);
            self.writer = Some(writer);
        }
        if let Some(writer) = &self.writer {
            writer.close();
        }
        Ok(ClosingSink {
            writer: self.writer.take(),
            is_stderr: self.is_stderr(),
            name: std::mem::take(&mut self.name),
        })
    }

    /// Ends the output as [`finish`](Self::finish) does, and waits until all is written.
    ///
    /// # Errors
    /// It could not be written.
    pub fn finish_now(self) -> Result<()> {
        let closing = self.finish()?;
        if let Some(writer) = &closing.writer {
            writer.wait(None);
        }
        closing.result()
    }

    fn is_stderr(&self) -> bool {
        matches!(self.place, Some(Place::Stderr))
    }

    /// Returns the writer, which is started by the first piece.
    fn writer(&mut self) -> Result<&Writer> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.start().map_err(|e| self.failed(&e))?,
        };
        Ok(self.writer.insert(writer))
    }

    fn start(&mut self) -> io::Result<Writer> {
        match self.place.take() {
            Some(Place::File(file)) => Writer::start("output", Streamed::new(file)),
            Some(Place::Stderr) => Writer::start("output", duplicate(io::stderr().as_fd())?),
            // Not `io::stdout`, since others would wait for its lock.
            Some(Place::Stdout) | None => Writer::start("output", duplicate(io::stdout().as_fd())?),
        }
    }

    fn failed(&self, e: &io::Error) -> Error {
        failed(&self.name, &e.to_string())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.close();
            writer.wait(Some(LAST_LINES));
        }
    }
}

/// A sink to which nothing is added any more.
#[derive(Debug)]
pub struct ClosingSink {
    writer: Option<Writer>,
    is_stderr: bool,
    name: String,
}

impl ClosingSink {
    /// Returns the outcome, once all is written.
    fn result(&self) -> Result<()> {
        match self.writer.as_ref().and_then(Writer::failure) {
            Some(trouble) => flow_of(&trouble, &self.name).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Closing for ClosingSink {
    fn writes_more(&self) -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(async {
            if let Some(writer) = &self.writer {
                if !writer.has_ended() {
                    writer.progress().await;
                }
                return writer.has_ended();
            }
            if self.is_stderr && !stderr::is_idle() {
                stderr::progress().await;
            }
            !self.is_stderr || stderr::is_idle()
        })
    }

    fn outcome(self: Box<Self>, waited: bool) -> Result<()> {
        match waited {
            true => self.result(),
            false => Err(Error::failed(format!(
                "the result was not written: nobody takes it from {}, where a reader or a disk hangs",
                show(&self.name)
            ))),
        }
    }
}

/// The closing of an output that has no result.
#[derive(Clone, Copy, Debug)]
pub struct NoOutput;

impl Closing for NoOutput {
    fn writes_more(&self) -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(std::future::ready(true))
    }

    fn outcome(self: Box<Self>, _waited: bool) -> Result<()> {
        Ok(())
    }
}

/// Writes one text to stdout, and waits for its reader; one that is gone is not an error.
///
/// # Errors
/// The text could not be written.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(failed("stdout", &e.to_string())),
        _ => Ok(()),
    }
}

fn duplicate(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<OwnedFd> {
    fd.try_clone_to_owned()
}

fn flow_of(trouble: &Trouble, name: &str) -> Result<Flow> {
    match trouble.kind {
        io::ErrorKind::BrokenPipe => Ok(Flow::ReaderGone),
        _ => Err(failed(name, &trouble.message)),
    }
}

fn failed(name: &str, why: &str) -> Error {
    Error::failed(format!("writing {} failed: {why}", show(name)))
}

fn show(name: &str) -> std::borrow::Cow<'_, str> {
    crate::escape::escape(name)
}

#[cfg(test)]
mod tests;
