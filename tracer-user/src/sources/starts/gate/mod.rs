//! The gate before each `execve`: a program that a followed process is about to execute waits until its probes are
//! there, bound to that process. The gate holds either every program of the host, and lets processes that are not
//! followed continue at once, or the programs of single files.
//!
//! A dedicated thread answers the kernel ([`keeper`]), whatever the rest of gmpscope does: for processes that are not
//! followed at once; for known programs when the process is linked, by other threads ([`binders`]); and after
//! [`keeper::PATIENCE`] in any case. No open is ever denied: [`descriptors`] says how the kernel is kept from doing so by
//! itself. Where the thread cannot answer, another process does ([`watchdog`]).

mod asker;
mod binders;
mod borrowed;
mod caller;
mod counts;
mod descriptors;
mod group;
mod keeper;
mod known;
mod message;
mod mounts;
mod pending_links;
mod questions;
mod watchdog;

use std::{
    collections::HashMap,
    fs::File,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::event::EventfdFlags;

pub use self::{
    asker::{Asker, Missed},
    counts::{GateCounts, Hold},
    descriptors::enough as enough_descriptors,
    group::trial,
    questions::{Question, Questions},
};
use self::{
    binders::Binders,
    group::WatchedMounts,
    keeper::{Keeper, Parts},
    message::{Mailbox, Message, Watch},
};
use super::links::Linked;
use crate::{
    bpf::linker::Linker,
    error::{Error, Result},
    escape::Untrusted,
    process::file::{FileId, FileState},
};

/// How long the thread is waited for to confirm a message.
const CONFIRMATION: Duration = Duration::from_secs(1);
/// The `/proc` folder of the thread that reads the link.
const OWN_DESCRIPTORS: &str = "/proc/thread-self";

/// A file whose `execve`, by any process, waits until the process has its probes.
pub struct WatchedFile {
    /// The file.
    pub file: File,
    /// The state in which it was analysed: in any other, its probes would be at wrong places.
    pub state: FileState,
    /// The slot of the binary.
    pub slot: u32,
    /// What attaches to its processes.
    pub linker: Arc<Linker>,
    /// Counts starts that continued without probes.
    pub missed: Arc<Missed>,
}

/// The closed gate. Dropping it opens it.
pub struct Gate {
    thread: Option<JoinHandle<()>>,
    mailbox: Mailbox,
    holds: Receiver<Hold>,
    complaints: Receiver<String>,
    asker: Asker,
    binders: Option<Binders>,
    linked: Receiver<Linked>,
    late: Receiver<u64>,
    /// Files that are watched, kept open meanwhile.
    files: Mutex<HashMap<FileId, File>>,
    /// How many file systems are watched.
    pub watches: usize,
    /// File systems that are not watched, and why.
    pub left: Vec<Untrusted>,
}

impl Gate {
    /// Closes the gate: from here on programs wait, all of the host or those that are watched, depending on `asker`.
    /// `held` is the kernel side's table of followed processes; `missed` counts starts that continued without their
    /// probes. Where all wait, the second value receives the questions.
    ///
    /// The fanotify group is open in the thread's table of descriptors alone: what we fork and execute does not inherit
    /// it.
    ///
    /// # Errors
    /// The privilege or the kernel's feature is missing, or there are too few descriptors.
    pub fn close(held: OwnedFd, asker: Asker, missed: Arc<Missed>) -> Result<(Self, Option<Questions>)> {
        let failed = |what: &str, e: &dyn std::fmt::Display| Error::failed(format!("{asker}: {what}: {e}"));
        enough_descriptors(asker)?;
        let eventfd = || {
            rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|e| failed("eventfd", &e))
        };
        let (wake, arrivals) = (eventfd()?, eventfd()?);
        let (sent, messages) = mpsc::channel();
        let (questions, asked) = mpsc::channel();
        let (held_ones, holds) = mpsc::channel();
        let (complain, complaints) = mpsc::channel();
        let (begun, begin) = mpsc::channel();
        let mailbox = Mailbox {
            messages: sent,
            wake: Arc::new(wake),
        };
        let (binders, linked) = Binders::start(&mailbox)?;
        let jobs = binders
            .jobs()
            .ok_or_else(|| failed("links", &"nobody makes them"))?;
        let (too_late, late) = mpsc::channel();
        let parts = Parts {
            held: held.as_raw_fd(),
            wake: mailbox.wake.as_raw_fd(),
            arrivals: arrivals.as_raw_fd(),
            asker,
            messages,
            questions,
            holds: held_ones,
            jobs,
            late: too_late,
            missed,
            complaints: complain,
        };
        let thread = std::thread::Builder::new()
            .name("gate".to_owned())
            .spawn(move || match begin_in_thread(parts) {
                Ok((keeper, watched, descriptors)) => {
                    let _ = begun.send(Ok((watched, descriptors)));
                    keeper.run();
                }
                Err(e) => {
                    let _ = begun.send(Err(e));
                }
            })
            .map_err(|e| failed("no thread could be made", &e))?;
        let began: std::result::Result<Result<(WatchedMounts, PathBuf)>, _> = begin.recv();
        let (watched, descriptors) = began.map_err(|_| failed("the gate", &"its thread has ended"))??;
        // The thread has its own descriptor by now.
        drop(held);
        let gate = Self {
            thread: Some(thread),
            mailbox: mailbox.clone(),
            holds,
            complaints,
            asker,
            binders: Some(binders),
            linked,
            late,
            files: Mutex::default(),
            watches: watched.watches,
            left: watched.left,
        };
        let questions = asker
            .watches_all()
            .then(|| Questions::new(asked, arrivals, descriptors, mailbox))
            .transpose()
            .map_err(|e| failed("questions cannot be waited for", &e))?;
        Ok((gate, questions))
    }

    /// Holds each `execve` of a file from here on.
    ///
    /// # Errors
    /// The kernel does not report them, or might not be able to open the file for us.
    pub fn watch(&self, watched: WatchedFile) -> Result<()> {
        let asker = self.asker;
        let kind = rustix::fs::fstatfs(&watched.file)
            .map_err(|e| Error::failed(format!("{asker}: its file system cannot be examined: {e}")))?
            .f_type;
        if !mounts::opens_for_us(kind) {
            return Err(Error::not_permitted(format!(
                "{asker}: the program lies on a file system of which it is not sure that it opens every file for \
                 gmpscope (of type {kind:#x}; FUSE, NFS and the like), and what could not be opened nobody could \
                 execute; {}",
                asker.alternative()
            )));
        }
        if let Some(binders) = &self.binders {
            binders.register(watched.slot, &watched.linker);
        }
        let id = watched.state.id;
        // The thread has another table of descriptors; /proc/PID/fd shows that of the first thread.
        let path = PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            watched.file.as_raw_fd()
        ));
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(id, watched.file);
        drop(files);
        let (done, wait) = mpsc::channel();
        let watch = Watch {
            path,
            state: watched.state,
            slot: watched.slot,
            missed: watched.missed,
        };
        self.mailbox.send(Message::Watch(Box::new(watch), done));
        let watched = wait.recv_timeout(CONFIRMATION);
        let watched =
            watched.unwrap_or_else(|_| Err(Error::failed("the thread that holds programs does not answer")));
        // Also where the answer was only late: the caller will not unwatch this file.
        watched.inspect_err(|_| self.unwatch(id))
    }

    /// Holds no `execve` of this file any more.
    pub fn unwatch(&self, file: FileId) {
        let (done, wait) = mpsc::channel();
        self.mailbox.send(Message::Unwatch(file, done));
        // The file must stay open until then. If the thread has ended, nothing is watched.
        let _ = wait.recv_timeout(CONFIRMATION);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.remove(&file);
    }

    /// Takes the processes that got probes since the last call, and the ids of jobs whose process did not wait for them.
    pub fn linked(&self) -> (Vec<Linked>, Vec<u64>) {
        // In this order: a link is sent before it is found to be late.
        let late = self.late.try_iter().collect();
        (self.linked.try_iter().collect(), late)
    }

    /// Opens the gate, which releases what waits. Returns what was linked since the last call of [`Self::linked`].
    pub fn open(mut self) -> Vec<Linked> {
        self.finish();
        self.linked.try_iter().collect()
    }

    fn finish(&mut self) {
        self.mailbox.send(Message::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // After the thread, which sends them jobs.
        drop(self.binders.take());
    }

    /// Answers a question: with the number of the binary and what attaches to its processes, or with one of
    /// [`tracer_ebpf::start::binary`].
    pub fn answer(&self, id: u64, binary: u32, linker: Option<Arc<Linker>>) {
        if let (Some(binders), Some(linker)) = (&self.binders, linker) {
            binders.register(binary, &linker);
        }
        self.mailbox.send(Message::Answer { id, binary });
    }

    /// Forgets a file whose probes are gone: the next opening asks about it again.
    pub fn forget(&self, file: FileId) {
        self.mailbox.send(Message::Forget(file));
    }

    /// Opens the gate while we are stopped and cannot answer.
    pub fn pause(&self) {
        let (done, wait) = mpsc::channel();
        self.mailbox.send(Message::Pause(done));
        // If the thread has ended, it holds nothing either.
        let _ = wait.recv_timeout(CONFIRMATION);
    }

    /// Takes the processes that were held since the last call. Logs the thread's complaints.
    pub fn holds(&self) -> impl Iterator<Item = Hold> {
        self.complaints.try_iter().for_each(|what| log::warn!("{what}"));
        self.holds.try_iter()
    }

    /// Holds programs again after [`Self::pause`].
    pub fn resume(&self) {
        self.mailbox.send(Message::Resume);
    }

    /// Returns the counts so far; `None` if the thread has ended.
    pub fn counts(&self) -> Option<GateCounts> {
        let (send, receive) = mpsc::channel();
        self.mailbox.send(Message::Count(send));
        receive.recv_timeout(CONFIRMATION).ok()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Closes the gate on the calling thread; also returns the path to its descriptors.
fn begin_in_thread(parts: Parts) -> Result<(Keeper, WatchedMounts, PathBuf)> {
    let own = std::fs::read_link(OWN_DESCRIPTORS)
        .map_err(|e| Error::failed(format!("{OWN_DESCRIPTORS} cannot be read: {e}")))?;
    let (keeper, watched) = Keeper::close(parts)?;
    Ok((keeper, watched, Path::new("/proc").join(own).join("fd")))
}
