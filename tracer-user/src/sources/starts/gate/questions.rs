//! What the gate asks, on its way to whoever answers.
//!
//! The two have different tables of descriptors, and a channel of tokio's wakes by a descriptor of the receiver's: what
//! has that number in the gate's table would be written to. So an eventfd that both have wakes the receiver.

use std::{
    fs::File,
    io,
    os::fd::{OwnedFd, RawFd},
    path::PathBuf,
    sync::mpsc::{Receiver, TryRecvError},
};

use tokio::io::{Interest, unix::AsyncFd};
use tracer_ebpf::start::binary;

use super::{Caller, Question, Word};
use crate::process::file::FileId;

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
    asked: Receiver<Asked>,
    /// Readable when there is one.
    arrivals: AsyncFd<OwnedFd>,
    /// The thread's descriptors, as /proc shows them.
    descriptors: PathBuf,
    caller: Caller,
}

impl Questions {
    /// Those that come through this channel. `arrivals` is an eventfd that is written to behind each.
    ///
    /// # Errors
    /// The event loop does not take it.
    #[allow(
        deprecated,
        reason = "the successor is unsafe to call; what owns its descriptor keeps it open"
    )]
    pub(super) fn new(
        asked: Receiver<Asked>,
        arrivals: OwnedFd,
        descriptors: PathBuf,
        caller: Caller,
    ) -> io::Result<Self> {
        Ok(Self {
            asked,
            arrivals: AsyncFd::with_interest(arrivals, Interest::READABLE)?,
            descriptors,
            caller,
        })
    }

    /// What is asked next, as the thread asks it.
    async fn next(&mut self) -> Option<Asked> {
        loop {
            match self.asked.try_recv() {
                Ok(asked) => return Some(asked),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            let mut arrived = self.arrivals.readable().await.ok()?;
            // One that comes from here on makes it readable again.
            let mut count = [0; 8];
            let _ = rustix::io::read(arrived.get_inner(), &mut count);
            arrived.clear_ready();
        }
    }

    /// The next question; `None` when the gate is open for good.
    pub async fn recv(&mut self) -> Option<Question> {
        loop {
            let asked = self.next().await?;
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
