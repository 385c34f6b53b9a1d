//! Attaching one binary's points to one process after the other, from whichever thread: the sites are written once,
//! and each process then takes one call.

use std::{fs::File, num::NonZeroU32, sync::Arc};

use super::{
    attach::{
        self, LinkKind, Point, Probes, ProgramKind, Scope, Way, attach_events, link_multi, path_of,
        read_pages,
    },
    events,
    kernel::Kernel,
};
use crate::{
    error::{Error, Result},
    process::file::{FileId, FileState},
};

/// A task whose process is to be probed, as its `execve` is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The thread that executes the program, in our PID namespace.
    pub tid: NonZeroU32,
    /// Whether it is the first thread of its process. Of another one `execve` makes the first: the task that had
    /// the process's id before is gone then, and with it what a uprobe_multi link was bound to.
    pub is_leader: bool,
}

/// The points of one binary.
pub struct Linker {
    file: File,
    state: FileState,
    points: Vec<Point>,
    first_cookie: u32,
    by: By,
    /// For threads that are not the first of their process, where that takes another way.
    for_threads: Option<Arc<events::Program>>,
}

enum By {
    Multi(Arc<super::multi::Program>),
    Events(Arc<events::Program>),
}

impl Linker {
    /// Writes the sites of `points` in `file` into the place of those that `slot` had before. Nothing is attached.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where the kernel refuses the program; the file cannot be read.
    pub fn new(
        kernel: &mut Kernel,
        program: ProgramKind,
        points: Vec<Point>,
        slot: u32,
        file: &File,
    ) -> Result<Self> {
        let failed = |e| Error::failed(format!("the program's file cannot be kept open: {e}"));
        let file = file.try_clone().map_err(failed)?;
        let state = FileState::of(&file.metadata().map_err(failed)?);
        attach::fits(&points, Scope::Binary)?;
        let first_cookie = attach::first_cookie(slot);
        read_pages(&file, &points)?;
        let way = attach::way(kernel);
        let name = attach::write(kernel, program, &points, first_cookie, Scope::Binary, way)?;
        let (by, for_threads) = match way {
            Way::Multi => (
                By::Multi(kernel.program_for_multi(name)?),
                kernel
                    .program_for_events(name)
                    .inspect_err(|e| log::info!("programs that threads execute are not traced: {e}"))
                    .ok(),
            ),
            Way::Events => (By::Events(kernel.program_for_events(name)?), None),
        };
        Ok(Self {
            file,
            state,
            points,
            first_cookie,
            by,
            for_threads,
        })
    }

    /// Which file the processes run.
    pub fn file_id(&self) -> FileId {
        self.state.id
    }

    /// How the probes of a process are held.
    pub fn kind(&self) -> LinkKind {
        match self.by {
            By::Multi(_) => LinkKind::Multi,
            By::Events(_) => LinkKind::PerfEvents,
        }
    }

    /// How many descriptors the probes of a process take.
    pub fn descriptors(&self, task: Task) -> usize {
        match (&self.by, task.is_leader) {
            (By::Multi(_), true) => 1,
            _ => self.points.len(),
        }
    }

    /// Probes the process that `task` is about to make of itself. They are live when this returns: after some
    /// 10 ms, or much less where another process was linked just before.
    ///
    /// # Errors
    /// The kernel refuses, the task is gone, it is none that can be followed, or the file was written to since it was
    /// analysed: no probe is left then.
    pub fn link(&self, task: Task) -> Result<Probes> {
        let probes = self.attach(task)?;
        let is_as_it_was = self
            .file
            .metadata()
            .is_ok_and(|now| FileState::of(&now) == self.state);
        if is_as_it_was {
            return Ok(probes);
        }
        // They may lie within instructions now. The process waits until they are gone.
        drop(probes);
        Err(Error::not_traceable(
            "the file was changed since it was looked at",
        ))
    }

    fn attach(&self, task: Task) -> Result<Probes> {
        // They may have left the page cache since.
        read_pages(&self.file, &self.points)?;
        let path = path_of(&self.file);
        let events = match (&self.by, task.is_leader) {
            (By::Multi(program), true) => {
                return link_multi(
                    program,
                    &self.points,
                    self.first_cookie,
                    Scope::Process(task.tid),
                    &path,
                );
            }
            (By::Events(events), _) => Some(events),
            (By::Multi(_), false) => self.for_threads.as_ref(),
        };
        let events = events.ok_or_else(|| {
            Error::not_permitted(
                "a thread that is not the first of its process has executed it, which takes perf events to follow, \
                 and those cannot be had here",
            )
        })?;
        attach_events(
            events,
            &self.points,
            self.first_cookie,
            Scope::Process(task.tid),
            &path,
        )
    }
}

/// It goes from the thread that finds a program to those that attach to its processes.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Linker>();
};
