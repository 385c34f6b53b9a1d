//! Questions of the gate's thread about files, on their way to the task that answers.
//!
//! The two have different tables of descriptors, and a channel of tokio's wakes its receiver by writing to a descriptor:
//! in the gate's table that number would be another file. So an eventfd that both have open wakes the receiver.

use std::{
    fs::File,
    io,
    os::fd::{OwnedFd, RawFd},
    path::PathBuf,
    sync::mpsc::{Receiver, TryRecvError},
};

use tokio::io::{Interest, unix::AsyncFd};
use tracer_ebpf::start::binary;

use super::message::{Mailbox, Message};
use crate::process::file::FileId;

/// A file that a process is about to execute, of which nothing is known.
#[derive(Debug)]
pub struct Question {
    /// Id to answer with.
    pub id: u64,
    /// Identity of the file.
    pub id_of_file: FileId,
    /// The file, open.
    pub file: File,
    /// Whether the process is followed. If not, the file had probes and was changed since: they must be removed.
    pub followed: bool,
}

/// A question as the gate's thread sends it: the file is open as `number` in that thread's table alone.
#[derive(Debug)]
pub struct SentQuestion {
    pub id: u64,
    pub id_of_file: FileId,
    pub number: RawFd,
    pub followed: bool,
}

/// Receives questions.
pub struct Questions {
    asked: Receiver<SentQuestion>,
    /// Readable when there is a question.
    arrivals: AsyncFd<OwnedFd>,
    /// The folder of the thread's descriptors in /proc.
    descriptors: PathBuf,
    mailbox: Mailbox,
}

impl Questions {
    /// Receives the questions of a channel. `arrivals` is an eventfd that is written to after each.
    ///
    /// # Errors
    /// The event loop does not take the eventfd.
    #[allow(
        deprecated,
        reason = "the successor is unsafe to call; what owns its descriptor keeps it open"
    )]
    pub(super) fn new(
        asked: Receiver<SentQuestion>,
        arrivals: OwnedFd,
        descriptors: PathBuf,
        mailbox: Mailbox,
    ) -> io::Result<Self> {
        Ok(Self {
            asked,
            arrivals: AsyncFd::with_interest(arrivals, Interest::READABLE)?,
            descriptors,
            mailbox,
        })
    }

    /// The next question as it was sent.
    async fn next(&mut self) -> Option<SentQuestion> {
        loop {
            match self.asked.try_recv() {
                Ok(asked) => return Some(asked),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            let mut arrived = self.arrivals.readable().await.ok()?;
            // A question that arrives after this makes it readable again.
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
                    self.mailbox.send(Message::Answer {
                        id: asked.id,
                        binary: binary::UNREADY,
                    });
                    // The next time there may be a descriptor for it.
                    self.mailbox.send(Message::Forget(asked.id_of_file));
                }
            }
        }
    }

    /// Opens the file in our own table. This makes no event: it is not opened to be executed.
    fn open(&self, asked: &SentQuestion) -> io::Result<File> {
        let file = File::open(self.descriptors.join(asked.number.to_string()))?;
        match FileId::of(&file.metadata()?) == asked.id_of_file {
            true => Ok(file),
            false => Err(io::Error::other("it is another file")),
        }
    }
}
