//! Where output goes: stdout, stderr, or a file that is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::escape::Untrusted;

/// Whether anybody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// It was written.
    Written,
    /// The reader has closed its end: no error, but no more to do (`gmpscope … | head`).
    ReaderGone,
}

/// An open output.
#[derive(Debug)]
pub struct Sink {
    kind: SinkKind,
    name: String,
}

#[derive(Debug)]
enum SinkKind {
    Stdout,
    Stderr,
    /// A device, a pipe: written as it comes.
    Direct(File),
    /// A file under construction.
    File(Pending),
}

/// A file beside the one that was asked for; removed unless it takes its place.
#[derive(Debug)]
struct Pending {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    done: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            // Nothing can be done about a failure, and nobody asked for this file.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

impl Sink {
    /// Opens the output: stdout for none and for `-`. A file that cannot be written fails here, before
    /// anything was captured; what is already there is replaced only by [`finish`](Self::finish).
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Self {
                kind: SinkKind::Stdout,
                name: "stdout".to_owned(),
            });
        };
        let name = Untrusted::path(path).to_string();
        let failed = |e: io::Error| {
            Error::failed(format!(
                "{} cannot be written: {e}; choose another file with -o",
                show(&name)
            ))
        };
        // A link is written through, as by a shell's redirection.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
            let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
            return Ok(Self {
                kind: SinkKind::Direct(file),
                name,
            });
        }
        let base = path
            .file_name()
            .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(base);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(failed)?;
        let pending = Pending {
            file,
            temporary,
            path,
            done: false,
        };
        Ok(Self {
            kind: SinkKind::File(pending),
            name,
        })
    }

    /// Standard error, for what must not go between the output of a command.
    pub fn stderr() -> Self {
        Self {
            kind: SinkKind::Stderr,
            name: "stderr".to_owned(),
        }
    }

    /// Whether people look at it.
    pub fn is_terminal(&self) -> bool {
        match &self.kind {
            SinkKind::Stdout => io::stdout().is_terminal(),
            SinkKind::Stderr => io::stderr().is_terminal(),
            SinkKind::Direct(file) => file.is_terminal(),
            SinkKind::File(_) => false,
        }
    }

    /// Writes `text` and flushes it.
    ///
    /// # Errors
    /// No space, or an error of the device. A reader that is gone is none.
    pub fn write(&mut self, text: &str) -> Result<Flow> {
        let written = match &mut self.kind {
            SinkKind::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
            }
            SinkKind::Stderr => io::stderr().write_all(text.as_bytes()),
            SinkKind::Direct(file) => file.write_all(text.as_bytes()),
            SinkKind::File(pending) => pending.file.write_all(text.as_bytes()),
        };
        match written {
            Ok(()) => Ok(Flow::Written),
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Flow::ReaderGone),
            Err(e) => Err(self.failed(&e)),
        }
    }

    /// Ends the output: a file takes its place, whole. Without it, nothing is left of a file.
    ///
    /// # Errors
    /// No space, or the directory may not be written.
    pub fn finish(mut self) -> Result<()> {
        let SinkKind::File(pending) = &mut self.kind else {
            return Ok(());
        };
        let renamed = pending
            .file
            .sync_all()
            .and_then(|()| fs::rename(&pending.temporary, &pending.path));
        match renamed {
            Ok(()) => {
                pending.done = true;
                Ok(())
            }
            Err(e) => Err(self.failed(&e)),
        }
    }

    fn failed(&self, e: &io::Error) -> Error {
        Error::failed(format!("writing {} failed: {e}", show(&self.name)))
    }
}

fn show(name: &str) -> std::borrow::Cow<'_, str> {
    super::escape::escape(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.json");
        fs::write(&path, "before").unwrap();
        let mut sink = Sink::open(Some(&path)).unwrap();
        assert_eq!(sink.write("half").unwrap(), Flow::Written);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        drop(sink);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");

        let mut sink = Sink::open(Some(&path)).unwrap();
        assert_eq!(sink.write("new ").unwrap(), Flow::Written);
        assert_eq!(sink.write("text").unwrap(), Flow::Written);
        sink.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new text");
        let names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["out.json"]);
    }

    #[test]
    fn a_link_is_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("out"), directory.path().join("link"));
        fs::write(&path, "before").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut sink = Sink::open(Some(&link)).unwrap();
        assert_eq!(sink.write("after").unwrap(), Flow::Written);
        sink.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn devices_are_written_directly_and_a_full_one_is_an_error() {
        let mut null = Sink::open(Some(Path::new("/dev/null"))).unwrap();
        assert_eq!(null.write("text").unwrap(), Flow::Written);
        null.finish().unwrap();
        let mut full = Sink::open(Some(Path::new("/dev/full"))).unwrap();
        let error = full.write("text").unwrap_err();
        assert!(
            error.message.contains("/dev/full") && error.message.contains("No space"),
            "{error}"
        );
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(status.success());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || drop(File::open(path).unwrap())
        });
        let mut sink = Sink::open(Some(&path)).unwrap();
        reader.join().unwrap();
        assert_eq!(sink.write("text").unwrap(), Flow::ReaderGone);
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_cannot_be_made_fails_at_once() {
        let error = Sink::open(Some(Path::new("/nonexistent/out.json"))).unwrap_err();
        assert!(error.message.contains("/nonexistent/out.json"), "{error}");
    }
}
