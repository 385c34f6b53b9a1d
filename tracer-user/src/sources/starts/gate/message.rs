//! Messages to the gate's thread.

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, mpsc::Sender},
};

use super::{asker::Missed, counts::GateCounts};
use crate::{
    error::Result,
    process::file::{FileId, FileState},
};

/// A [`WatchedFile`](super::WatchedFile) for the thread, without descriptors.
pub(super) struct Watch {
    /// Path to the file through the descriptor table of the rest of gmpscope.
    pub(super) path: PathBuf,
    pub(super) state: FileState,
    pub(super) slot: u32,
    pub(super) missed: Arc<Missed>,
}

/// A message to the thread. Owns no descriptor, since the thread has another table of them.
pub(super) enum Message {
    Answer {
        id: u64,
        binary: u32,
    },
    /// The outcome of a job.
    JobDone {
        id: u64,
        result: std::result::Result<(), String>,
    },
    Watch(Box<Watch>, Sender<Result<()>>),
    Unwatch(FileId, Sender<()>),
    Forget(FileId),
    Pause(Sender<()>),
    Resume,
    Count(Sender<GateCounts>),
    End,
}

/// Sends messages to the thread, and wakes it.
#[derive(Clone)]
pub(super) struct Mailbox {
    pub(super) messages: Sender<Message>,
    pub(super) wake: Arc<OwnedFd>,
}

impl Mailbox {
    /// Sends a message.
    pub(super) fn send(&self, message: Message) {
        // The thread ends only on request, or after a failure: then nothing waits.
        let _ = self.messages.send(message);
        // Fails only where the eventfd is readable already.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}
