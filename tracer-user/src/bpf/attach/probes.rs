//! Probes, and the two kinds of links that hold them.

use std::{num::NonZeroU32, path::Path, sync::Arc};

use super::Point;
use crate::{
    bpf::{events, kernel::Kernel, multi},
    error::{Error, Result},
    kernel::{privilege::Need, refusal::refused, release},
    process::threads::{is_alive, living_thread},
};

/// The kind of link that holds probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// One uprobe_multi link for all sites.
    Multi,
    /// A perf event for each site.
    PerfEvents,
}

impl LinkKind {
    /// The name that text and JSON use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Multi => "uprobe_multi",
            Self::PerfEvents => "perf_events",
        }
    }
}

/// The processes that get probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One process, all its threads.
    Process(NonZeroU32),
    /// One process whose first thread has ended: a link is bound to another thread, and in force in the memory of all.
    Leaderless {
        /// The process.
        pid: NonZeroU32,
        /// A thread that lives.
        thread: NonZeroU32,
    },
    /// Every process that maps the file, also those to come.
    Binary,
}

impl Scope {
    /// The process with this id.
    ///
    /// # Errors
    /// The id is 0, which is not one.
    pub fn process(pid: u32) -> Result<Self> {
        NonZeroU32::new(pid)
            .map(Self::Process)
            .ok_or_else(|| Error::usage("0 is not the id of a process"))
    }

    /// A process that runs, with or without its first thread.
    ///
    /// # Errors
    /// As [`Self::process`].
    pub fn running(pid: u32) -> Result<Self> {
        let other = living_thread(pid).filter(|thread| *thread != pid);
        match (NonZeroU32::new(pid), other.and_then(NonZeroU32::new)) {
            (Some(pid), Some(thread)) => Ok(Self::Leaderless { pid, thread }),
            _ => Self::process(pid),
        }
    }

    /// The id of the process as uprobe_multi takes it, where 0 is every process.
    pub(super) fn pid(self) -> u32 {
        match self {
            Self::Process(pid) | Self::Leaderless { pid, .. } => pid.get(),
            Self::Binary => 0,
        }
    }

    /// The process, and the thread that links are bound to.
    fn thread(self) -> Option<(u32, u32)> {
        match self {
            Self::Process(pid) => Some((pid.get(), pid.get())),
            Self::Leaderless { pid, thread } => Some((pid.get(), thread.get())),
            Self::Binary => None,
        }
    }

    /// Whether uprobe_multi can take it. Such a link is bound to the first thread: once that has ended, it has no
    /// memory in which the kernel could set breakpoints (`uprobe_multi_link_filter`), and nothing would be seen.
    pub(super) fn has_leader(self) -> bool {
        !matches!(self, Self::Leaderless { .. })
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process(pid) | Self::Leaderless { pid, .. } => write!(f, "process {pid}"),
            Self::Binary => f.write_str("all processes of the binary"),
        }
    }
}

/// Live probes. Dropping them removes them: one multi link takes some 35 ms, and perf events some 80 ms each, so
/// print first.
pub struct Probes {
    /// The kind of link.
    pub kind: LinkKind,
    /// The process, and the thread that the links are bound to; `None` for a whole binary.
    bound_to: Option<(u32, u32)>,
    links: Links,
}

/// The end of the thread that probes are bound to, while its process lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadEnded {
    /// The thread.
    pub thread: u32,
    /// Whether the probes are not in force any more, so that hits are missed.
    pub is_lost: bool,
}

impl Probes {
    /// Whether the thread that the probes are bound to has ended, and its process has not.
    ///
    /// A perf event is in force in the memory of its task, which has none any more then (`__uprobe_perf_filter`,
    /// kernel/trace/trace_uprobe.c).
    pub fn thread_ended(&self) -> Option<ThreadEnded> {
        let (pid, thread) = self.bound_to?;
        if is_alive(pid, thread) {
            return None;
        }
        living_thread(pid)?;
        let is_lost =
            self.kind == LinkKind::PerfEvents || !release::links_outlive_their_thread(&release::release());
        Some(ThreadEnded { thread, is_lost })
    }

    /// Splits into one value per descriptor, to be dropped by several threads at once: the kernel lets them wait
    /// together.
    pub fn split(self) -> Vec<Self> {
        let (kind, bound_to) = (self.kind, self.bound_to);
        let probes = |links| Self {
            kind,
            bound_to,
            links,
        };
        match self.links {
            links @ Links::Multi(..) => vec![probes(links)],
            Links::PerfEvents(links) => {
                let alone = links.into_iter().map(|link| Links::PerfEvents(vec![link]));
                alone.map(probes).collect()
            }
        }
    }
}

#[allow(dead_code, reason = "held for what their drop does")]
enum Links {
    Multi(multi::Link, Arc<multi::Program>),
    PerfEvents(Vec<events::Probe>),
}

/// A program that is in the kernel, loaded for one kind of link.
pub(in crate::bpf) enum Loaded {
    Multi(Arc<multi::Program>),
    PerfEvents(Arc<events::Program>),
}

impl Loaded {
    /// Loads the program `name` for links of this kind, unless it is loaded already.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(in crate::bpf) fn load(kernel: &mut Kernel, kind: LinkKind, name: &'static str) -> Result<Self> {
        Ok(match kind {
            LinkKind::Multi => Self::Multi(kernel.program_for_multi(name)?),
            LinkKind::PerfEvents => Self::PerfEvents(kernel.program_for_events(name)?),
        })
    }

    pub(in crate::bpf) fn kind(&self) -> LinkKind {
        match self {
            Self::Multi(_) => LinkKind::Multi,
            Self::PerfEvents(_) => LinkKind::PerfEvents,
        }
    }

    /// Attaches to `points`, whose sites are written, in the executable at `file`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(in crate::bpf) fn attach(
        &self,
        points: &[Point],
        first_cookie: u32,
        scope: Scope,
        file: &Path,
    ) -> Result<Probes> {
        let links = match self {
            Self::Multi(program) => link_multi(program, points, first_cookie, scope, file)?,
            Self::PerfEvents(program) => attach_events(program, points, first_cookie, scope, file)?,
        };
        Ok(Probes {
            kind: self.kind(),
            bound_to: scope.thread(),
            links,
        })
    }
}

fn link_multi(
    program: &Arc<multi::Program>,
    points: &[Point],
    first_cookie: u32,
    scope: Scope,
    file: &Path,
) -> Result<Links> {
    let cookies: Vec<u64> = (first_cookie..).map(u64::from).take(points.len()).collect();
    let offsets: Vec<u64> = points.iter().map(|point| point.file_offset).collect();
    let link = program.link(file, &offsets, &cookies, scope.pid()).map_err(|e| {
        refused(
            &format!("open {} probes in one link", points.len()),
            Need::LoadPrograms,
            &e,
        )
    })?;
    Ok(Links::Multi(link, Arc::clone(program)))
}

fn attach_events(
    program: &events::Program,
    points: &[Point],
    first_cookie: u32,
    scope: Scope,
    file: &Path,
) -> Result<Links> {
    let cookies = aya::features().bpf_cookie();
    let task = match scope {
        Scope::Process(task) | Scope::Leaderless { thread: task, .. } => Some(task.get()),
        Scope::Binary => None,
    };
    let mut probes = Vec::with_capacity(points.len());
    for (cookie, point) in (first_cookie..).zip(points) {
        let cookie = cookies.then_some(u64::from(cookie));
        let probe = program
            .attach(file, point.file_offset, task, cookie)
            .map_err(|e| {
                refused(
                    &format!("open a probe at offset {:#x}", point.file_offset),
                    Need::OpenProbe,
                    &e,
                )
            })?;
        probes.push(probe);
    }
    Ok(Links::PerfEvents(probes))
}
