//! What the gate asks, on its way to whoever answers.

use std::{fs::File, io, os::fd::RawFd, path::PathBuf};

use tokio::sync::mpsc::UnboundedReceiver;
use tracer_ebpf::start::binary;

use super::{Caller, Question, Word};
use crate::target::file::FileId;

/// A question as the gate's thread asks it: the file is open in that thread's table of descriptors alone.
#[derive(Debug)]
pub struct Asked {
    pub id: u64,
    pub id_of_file: FileId,
    pub number: RawFd,
    pub followed: bool,
}

/// Where questions come from.
pub struct Questions {
    asked: UnboundedReceiver<Asked>,
    /// The thread's descriptors, as /proc shows them.
    descriptors: PathBuf,
    caller: Caller,
}

impl Questions {
    pub(super) fn new(asked: UnboundedReceiver<Asked>, descriptors: PathBuf, caller: Caller) -> Self {
        Self {
            asked,
            descriptors,
            caller,
        }
    }

    /// The next question; `None` when the gate is open for good.
    pub async fn recv(&mut self) -> Option<Question> {
        loop {
            let asked = self.asked.recv().await?;
            match self.open(&asked) {
                Ok(file) => {
                    return Some(Question {
                        id: asked.id,
                        id_of_file: asked.id_of_file,
                        file,
                        followed: asked.followed,
                    });
                }
                Err(e) => {
                    log::warn!("a program that is executed could not be looked at: {e}");
                    self.caller.say(Word::Answer {
                        id: asked.id,
                        binary: binary::UNREADY,
                    });
                    // There may be room the next time.
                    self.caller.say(Word::Forget(asked.id_of_file));
                }
            }
        }
    }

    /// The file, for ourselves. Opening it makes no event: it is not opened to be executed.
    fn open(&self, asked: &Asked) -> io::Result<File> {
        let file = File::open(self.descriptors.join(asked.number.to_string()))?;
        match FileId::of(&file.metadata()?) == asked.id_of_file {
            true => Ok(file),
            false => Err(io::Error::other("it is another file")),
        }
    }
}
