//! Attaching programs to the sites of one process, and removing them again.
//!
//! By one uprobe_multi link where the kernel has correct ones, which is removed in some 35 ms whatever the number of
//! sites; else by perf events, which take some 80 ms each.

mod probes;
pub(super) mod program;
mod removal;
mod sites;

use std::{
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use tracer_ebpf::Site;

pub(super) use self::{
    probes::Loaded,
    sites::{check_room, first_cookie, write_sites},
};
pub use self::{
    probes::{LinkKind, Probes, Scope, ThreadEnded},
    program::ProgramKind,
    removal::drop_in_parallel,
    sites::{in_initial_pid_namespace, keys_by_ip},
};
use super::{kernel::Kernel, multi};
use crate::{
    error::{Error, Result},
    escape::Untrusted,
};

/// Set to anything, this variable makes probes perf events though uprobe_multi works: for tests, and for a kernel
/// whose links misbehave.
const FORCE_PERF_EVENTS: &str = "GMPSCOPE_PERF_EVENTS";

/// One instruction to attach to.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Its offset in the file.
    pub file_offset: u64,
    /// Its address in the running process.
    pub address: u64,
    /// What the program looks up at a hit.
    pub site: Site,
}

/// What is attached, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The program that runs at each hit.
    pub program: ProgramKind,
    /// The probed instructions. Their sites replace those that the slot had before.
    pub points: &'a [Point],
    /// Index of the target in the kernel's tables.
    pub slot: u32,
    /// Whose hits they are.
    pub scope: Scope,
    /// The mapped executable: `/proc/PID/exe`, or what [`path_of`] makes of an open file.
    pub file: &'a Path,
}

/// Attaches a program to instructions.
///
/// # Errors
/// [`crate::error::Failure::NotPermitted`] where the kernel refuses; the message has both attempts.
pub fn attach(
    kernel: &mut Kernel,
    Request {
        program,
        points,
        slot,
        scope,
        file,
    }: Request<'_>,
) -> Result<Probes> {
    check_room(points, scope)?;
    let first_cookie = first_cookie(slot);
    let opened = File::open(file)
        .map_err(|e| Error::not_traceable(format!("could not open {}: {e}", file.display())))?;
    read_pages(&opened, points)?;
    let preferred = match scope.has_leader() {
        true => preferred_kind(kernel),
        false => LinkKind::PerfEvents,
    };
    let mut attach_by = |kind: LinkKind| -> Result<Probes> {
        let name = write_sites(kernel, program, points, first_cookie, scope, kind)?;
        Loaded::load(kernel, kind, name)?.attach(points, first_cookie, scope, file)
    };
    match preferred {
        LinkKind::PerfEvents => attach_by(LinkKind::PerfEvents),
        LinkKind::Multi => attach_by(LinkKind::Multi).or_else(|multi_error| {
            attach_by(LinkKind::PerfEvents).map_err(|perf_error| Error {
                failure: perf_error.failure,
                message: format!(
                    "could not attach to {scope}: by uprobe_multi: {multi_error}; by perf events: {perf_error}"
                ),
            })
        }),
    }
}

/// The kind of link to try first on this kernel.
pub(super) fn preferred_kind(kernel: &mut Kernel) -> LinkKind {
    if std::env::var_os(FORCE_PERF_EVENTS).is_some() {
        log::info!("{FORCE_PERF_EVENTS} is set: attaching by perf events");
        return LinkKind::PerfEvents;
    }
    match kernel.multi_support() {
        multi::Support::Works => LinkKind::Multi,
        multi::Support::Missing(why) => {
            log::info!(
                "no uprobe_multi links here ({why}); attaching by perf events, which are slow to detach"
            );
            LinkKind::PerfEvents
        }
        multi::Support::PidFilterBroken => {
            log::info!(
                "this kernel's uprobe_multi links filter by thread in place of process (fixed in 6.6.35, \
                 6.9.5, 6.10); attaching by perf events, which are slow to detach"
            );
            LinkKind::PerfEvents
        }
    }
}

/// Reads the page of each site: attaching to a page that is not in the page cache makes some kernels (seen on 6.18)
/// print a warning from ext4, which is fatal under `panic_on_warn`.
pub(super) fn read_pages(file: &File, points: &[Point]) -> Result<()> {
    for point in points {
        file.read_exact_at(&mut [0], point.file_offset).map_err(|e| {
            let name = std::fs::read_link(path_of(file)).unwrap_or_else(|_| path_of(file));
            Error::not_traceable(format!(
                "could not read offset {:#x} of {}, where a probe was to be: {e}",
                point.file_offset,
                Untrusted::path(&name)
            ))
        })?;
    }
    Ok(())
}

/// A path to the very file that is open, even if it was replaced or deleted since.
pub fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
