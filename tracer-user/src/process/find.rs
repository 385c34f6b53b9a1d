//! Finds processes by the file that they execute, or by name.

use std::fs;
use std::path::Path;

use procfs::process::all_processes;

use crate::error::{Error, Result};
use crate::escape::Untrusted;
use crate::process::file::{FileId, FileState};

/// Bytes of a process's name that the kernel keeps (`TASK_COMM_LEN` less the NUL).
const COMM_LEN: usize = 15;

/// A process that matches, for a list from which the user chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its PID.
    pub pid: i32,
    /// Its name.
    pub comm: Untrusted,
    /// Its program's path as the kernel shows it, if we may see it.
    pub exe: Option<Untrusted>,
    /// When it was started, in clock ticks since boot.
    pub start_time: u64,
}

/// Processes that execute the file at `path`: this very file, or one that had this path and was replaced
/// or deleted since. Sorted by PID; empty if there is none.
pub fn by_exe(path: &Path) -> Result<Vec<Found>> {
    let id = fs::metadata(path).map(|m| FileId::of(&m)).ok();
    let absolute = fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok();
    search(|found, exe| {
        let same_file = id.is_some() && exe == id;
        let shown = found
            .exe
            .as_ref()
            .map(Untrusted::raw)
            .map(|e| Path::new(e.strip_suffix(" (deleted)").unwrap_or(e)));
        same_file || (shown.is_some() && shown == absolute.as_deref())
    })
}

/// Processes of this name, sorted by PID. Of a longer name only the part that the kernel keeps is compared.
pub fn by_comm(name: &str) -> Result<Vec<Found>> {
    let kept = name
        .as_bytes()
        .get(..name.len().min(COMM_LEN))
        .unwrap_or_default();
    search(|found, _| found.comm.raw().as_bytes() == kept)
}

fn search(matches: impl Fn(&Found, Option<FileId>) -> bool) -> Result<Vec<Found>> {
    let failed = |e| Error::failed(format!("the list of processes (/proc) cannot be read: {e}"));
    let ourselves = i32::try_from(std::process::id()).unwrap_or(0);
    let mut all = Vec::new();
    // Processes may end while the list is read; they are left out.
    for process in all_processes().map_err(failed)?.flatten() {
        let Ok(stat) = process.stat() else { continue };
        if process.pid() == ourselves || matches!(stat.state, 'Z' | 'X' | 'x') {
            continue;
        }
        let link = format!("/proc/{}/exe", process.pid());
        let exe = FileState::known_at(&link).map(|state| state.id).ok();
        let found = Found {
            pid: process.pid(),
            comm: stat.comm.into(),
            exe: fs::read_link(&link).ok().map(|p| Untrusted::path(&p)),
            start_time: stat.starttime,
        };
        if matches(&found, exe) {
            all.push(found);
        }
    }
    all.sort_by_key(|f| f.pid);
    Ok(all)
}
