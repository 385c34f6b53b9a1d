//! Has all states read by a thread of its own, and decides when.
//!
//! A million goroutines take a second to read. On the thread that empties the rings that would be a second in which they
//! overflow, and what is lost then asks for the next reading. The parts come through a short queue, so that the reader
//! waits while nobody takes them, and memory is bounded.

mod pace;

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    time::Duration,
};

use self::pace::Pace;
use super::snapshot::SnapshotReader;
use crate::{
    clock::now_ns,
    error::{Error, Result},
    process::memory::{Memory, ReadError},
    stream::transition::SchedSnapshot,
    writing,
};

/// Parts that wait to be taken.
const WAITING: usize = 2;

/// The thread that reads, and the reading that is under way.
pub struct Readings {
    requests: SyncSender<()>,
    answers: Receiver<Answer>,
    under_way: bool,
    pace: Pace,
}

enum Answer {
    Part(SchedSnapshot),
    /// The reading has ended without a last part.
    Failed(ReadError),
}

impl Readings {
    /// Starts the thread, which ends when this is dropped.
    ///
    /// # Errors
    /// The thread cannot be created.
    pub fn start<M: Memory + Send + 'static>(reader: SnapshotReader<M>) -> Result<Self> {
        let (requests, requested) = sync_channel::<()>(1);
        let (answer, answers) = sync_channel(WAITING);
        let run = move || {
            while requested.recv().is_ok() {
                let read = reader.read(now_ns, |part| answer.send(Answer::Part(part)).is_ok());
                if let Err(e) = read
                    && answer.send(Answer::Failed(e)).is_err()
                {
                    return;
                }
            }
        };
        // Nobody waits for its end: it touches nothing but memory of the target, by its PID.
        let _detached = writing::spawn("states", run).map_err(|e| {
            Error::failed(format!(
                "no thread could be made to read the scheduler's states: {e}"
            ))
        })?;
        Ok(Self {
            requests,
            answers,
            under_way: false,
            pace: Pace::default(),
        })
    }

    /// Whether all states have to be read again, and may be: something was lost at `lost_ns`, after the last reading had
    /// begun.
    pub fn are_needed(&self, now_ns: u64, lost_ns: u64) -> bool {
        !self.under_way && self.pace.is_outdated(lost_ns) && self.pace.allows(now_ns, lost_ns)
    }

    /// Begins a reading, unless one is under way or it is too soon for another. Returns whether one is under way.
    pub fn begin(&mut self, now_ns: u64, lost_ns: u64) -> bool {
        if !self.under_way && self.pace.allows(now_ns, lost_ns) {
            self.begin_at_once(now_ns);
        }
        self.under_way
    }

    /// Begins a reading, unless one is under way.
    pub fn begin_at_once(&mut self, now_ns: u64) {
        if !self.under_way {
            self.pace.begin(now_ns);
            self.under_way = self.requests.try_send(()).is_ok();
        }
    }

    /// Whether a reading is under way.
    pub fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// Takes the next part of the reading that is under way, if it comes within this time. `lost_ns` is when something
    /// was last lost.
    pub fn take(&mut self, within: Duration, lost_ns: u64) -> Option<SchedSnapshot> {
        if !self.under_way {
            return None;
        }
        let answer = match self.answers.try_recv() {
            Err(TryRecvError::Empty) => self.answers.recv_timeout(within),
            Ok(answer) => Ok(answer),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
        };
        match answer {
            Ok(Answer::Part(part)) => {
                if part.part.is_none_or(|part| part.is_last) {
                    self.end(lost_ns);
                }
                Some(part)
            }
            Ok(Answer::Failed(e)) => {
                log::debug!("the scheduler's states were not read: {e}");
                self.end(lost_ns);
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                log::warn!("the thread that reads the scheduler's states has ended");
                self.end(lost_ns);
                None
            }
        }
    }

    fn end(&mut self, lost_ns: u64) {
        self.under_way = false;
        self.pace.end(now_ns(), lost_ns);
    }
}

#[cfg(test)]
mod tests;
