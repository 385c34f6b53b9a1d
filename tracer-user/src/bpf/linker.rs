//! Attaching one binary's points to one process after the other, from any thread: the sites are written once, and
//! each process then takes one call.

use std::{fs::File, num::NonZeroU32};

use super::{
    attach::{
        LinkKind, Loaded, Point, Probes, ProgramKind, Scope, check_room, first_cookie, path_of,
        preferred_kind, read_pages, write_sites,
    },
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
    /// Whether it is the first thread of its process. `execve` turns any other thread into the first: the task that
    /// had the process's id before is gone then, and with it what a uprobe_multi link was bound to.
    pub is_leader: bool,
}

/// The points of one binary.
pub struct Linker {
    file: File,
    state: FileState,
    points: Vec<Point>,
    first_cookie: u32,
    loaded: Loaded,
    /// For threads that are not the first of their process, where uprobe_multi cannot follow those.
    for_threads: Option<Loaded>,
}

impl Linker {
    /// Writes the sites of `points` in `file` over those that `slot` had before. Attaches nothing.
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
        check_room(&points, Scope::Binary)?;
        let first_cookie = first_cookie(slot);
        read_pages(&file, &points)?;
        let kind = preferred_kind(kernel);
        let name = write_sites(kernel, program, &points, first_cookie, Scope::Binary, kind)?;
        let loaded = Loaded::load(kernel, kind, name)?;
        let for_threads = match kind {
            LinkKind::Multi => Loaded::load(kernel, LinkKind::PerfEvents, name)
                .inspect_err(|e| log::info!("programs that threads execute are not traced: {e}"))
                .ok(),
            LinkKind::PerfEvents => None,
        };
        Ok(Self {
            file,
            state,
            points,
            first_cookie,
            loaded,
            for_threads,
        })
    }

    /// Which file the processes run.
    pub fn file_id(&self) -> FileId {
        self.state.id
    }

    /// The kind of link that holds the probes of a process.
    pub fn kind(&self) -> LinkKind {
        self.loaded.kind()
    }

    /// How many descriptors the probes of a process take.
    pub fn descriptors(&self, task: Task) -> usize {
        match (self.kind(), task.is_leader) {
            (LinkKind::Multi, true) => 1,
            _ => self.points.len(),
        }
    }

    /// Probes the process that `task` is about to become. The probes are live when this returns: after some 10 ms,
    /// or much less where another process was linked just before.
    ///
    /// # Errors
    /// The kernel refuses, the task is gone or cannot be followed, or the file was written to since it was analysed:
    /// no probe is left then.
    pub fn link(&self, task: Task) -> Result<Probes> {
        let probes = self.attach(task)?;
        let is_as_it_was = self
            .file
            .metadata()
            .is_ok_and(|now| FileState::of(&now) == self.state);
        if is_as_it_was {
            return Ok(probes);
        }
        // The probes may lie within instructions now. The process waits until they are gone.
        drop(probes);
        Err(Error::not_traceable(
            "the file was changed since it was looked at",
        ))
    }

    fn attach(&self, task: Task) -> Result<Probes> {
        // The pages may have left the page cache since.
        read_pages(&self.file, &self.points)?;
        let loaded = match (self.kind(), task.is_leader) {
            (LinkKind::Multi, false) => self.for_threads.as_ref().ok_or_else(|| {
                Error::not_permitted(
                    "a thread that is not the first of its process has executed it, which takes perf events to \
                     follow, and those cannot be had here",
                )
            })?,
            _ => &self.loaded,
        };
        loaded.attach(
            &self.points,
            self.first_cookie,
            Scope::Process(task.tid),
            &path_of(&self.file),
        )
    }
}

/// A linker is shared between the thread that finds a program and those that attach to its processes.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Linker>();
};
