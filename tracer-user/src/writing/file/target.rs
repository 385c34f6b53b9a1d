//! The two ways in which a writer's chunks get into a file.

use std::{io, os::fd::AsFd as _};

use super::{Kind, OutputFile};
use crate::writing::{write_all, writer::Target};

/// Writes chunks into a file as they come, and keeps only whole ones. The first one replaces what was there.
pub struct Streamed {
    file: OutputFile,
    begun: bool,
    /// Bytes of whole chunks.
    good: u64,
}

impl Streamed {
    /// Streams into `file`.
    pub fn new(file: OutputFile) -> Self {
        Self {
            file,
            begun: false,
            good: 0,
        }
    }
}

impl Target for Streamed {
    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            self.file.begin()?;
        }
        let written = write_all(self.file.file.as_fd(), chunk);
        if self.file.is_regular() {
            match written {
                Ok(()) => {
                    self.good += chunk.len() as u64;
                    self.file.kind = Kind::Kept;
                }
                Err(_) => drop(self.file.file.set_len(self.good)),
            }
        }
        written
    }

    fn finish(&mut self) -> io::Result<()> {
        match self.file.is_regular() {
            true => self.file.file.sync_data(),
            false => Ok(()),
        }
    }
}

/// Collects all chunks, and writes them into a file at the end.
pub struct Replaced {
    file: OutputFile,
    bytes: Vec<u8>,
}

impl Replaced {
    /// Collects what is to replace the contents of `file`.
    pub fn new(file: OutputFile) -> Self {
        Self {
            file,
            bytes: Vec::new(),
        }
    }
}

impl Target for Replaced {
    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.file.replace(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn only_whole_lines_are_kept_where_the_disk_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut streamed = Streamed::new(OutputFile::open(&path).unwrap());
        streamed.write(b"one line\n").unwrap();
        // As if a write had come half through.
        write_all(streamed.file.file.as_fd(), b"half a l").unwrap();
        streamed.file.file = File::open(&path).unwrap();
        assert!(streamed.write(b"ine").is_err(), "a file that is open for reading");
        drop(streamed);
        assert!(fs::read_to_string(&path).unwrap().starts_with("one line\n"));
    }
}
