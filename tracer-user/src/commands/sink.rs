//! Where results go: stdout or a file. Logs and notes go to stderr and never through here.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use crate::error::{Error, Result};

/// Whether somebody still reads what we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// As far as we know.
    There,
    /// The pipe's other end is closed (`gmpscope … | head`): a reason to end, not an error.
    Gone,
}

/// The place that the user chose for the result.
pub struct Sink {
    name: String,
    file: Option<File>,
    /// Whether the file still holds what it held before.
    fresh: bool,
}

impl Sink {
    /// Opens `path`, or stdout. Done before a capture begins, so that a path that cannot be written fails
    /// at once; a file's former content is dropped only when the first text is written.
    ///
    /// # Errors
    /// When the file cannot be opened for writing.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self {
                name: "stdout".into(),
                file: None,
                fresh: false,
            });
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|cause| {
                Error::failed(format!(
                    "cannot write the result to `{}`: {cause}; choose another file with -o",
                    path.display()
                ))
            })?;
        Ok(Self {
            name: path.display().to_string(),
            file: Some(file),
            fresh: true,
        })
    }

    /// Writes one text at the end of what was written before, at once.
    ///
    /// # Errors
    /// When writing fails for another reason than a closed pipe.
    pub fn write(&mut self, text: &str) -> Result<Reader> {
        let written = match &mut self.file {
            None => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
            }
            Some(file) => empty(file, &mut self.fresh).and_then(|()| file.write_all(text.as_bytes())),
        };
        match written {
            Ok(()) => Ok(Reader::There),
            Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
            Err(cause) => Err(Error::failed(format!("cannot write to {}: {cause}", self.name))),
        }
    }
}

/// Drops a regular file's former content, once; a pipe or a device has none.
fn empty(file: &File, fresh: &mut bool) -> io::Result<()> {
    if *fresh && file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    *fresh = false;
    Ok(())
}

/// Writes one text to stdout.
///
/// # Errors
/// As [`Sink::write`].
pub fn print(text: &str) -> Result<()> {
    Sink::open(None)?.write(text).map(drop)
}
