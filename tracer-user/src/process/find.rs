//! Finds processes by the file that they execute, or by name.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use procfs::process::all_processes;

use crate::error::{Error, Result};
use crate::escape::Untrusted;
use crate::process::file::{FileId, FileState};
use crate::process::threads;

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
    search(|seen| {
        let same_file = id.is_some() && seen.file == id;
        let shown = seen.exe.as_deref().map(|exe| {
            let bytes = exe.as_os_str().as_bytes();
            bytes.strip_suffix(b" (deleted)").unwrap_or(bytes)
        });
        let wanted = absolute.as_deref().map(|path| path.as_os_str().as_bytes());
        same_file || (shown.is_some() && shown == wanted)
    })
}

/// Processes of this name, sorted by PID. Of a longer name only the part that the kernel keeps is compared, which may
/// end within a letter.
pub fn by_comm(name: &str) -> Result<Vec<Found>> {
    let kept = name
        .as_bytes()
        .get(..name.len().min(COMM_LEN))
        .unwrap_or_default();
    search(|seen| seen.comm == kept)
}

/// A process as /proc shows it, in bytes.
struct Seen {
    comm: Vec<u8>,
    exe: Option<PathBuf>,
    file: Option<FileId>,
}

fn search(matches: impl Fn(&Seen) -> bool) -> Result<Vec<Found>> {
    let failed = |e| Error::failed(format!("the list of processes (/proc) cannot be read: {e}"));
    let ourselves = i32::try_from(std::process::id()).unwrap_or(0);
    let mut all = Vec::new();
    // Processes may end while the list is read; they are left out.
    for process in all_processes().map_err(failed)?.flatten() {
        let (pid, Ok(stat)) = (process.pid(), process.stat()) else {
            continue;
        };
        let has_ended = matches!(stat.state, 'Z' | 'X' | 'x');
        // Where only its first thread has ended, the others are counted with it.
        if pid == ourselves || has_ended && stat.num_threads <= 1 {
            continue;
        }
        let folder = match has_ended {
            true => threads::folder(pid.unsigned_abs()),
            false => format!("/proc/{pid}"),
        };
        // procfs has decoded the name.
        let Ok(comm) = fs::read(format!("/proc/{pid}/comm")) else {
            continue;
        };
        let link = format!("{folder}/exe");
        let seen = Seen {
            comm: comm.strip_suffix(b"\n").unwrap_or(&comm).to_vec(),
            file: FileState::known_at(&link).map(|state| state.id).ok(),
            exe: fs::read_link(&link).ok(),
        };
        if matches(&seen) {
            all.push(Found {
                pid,
                comm: String::from_utf8_lossy(&seen.comm).into_owned().into(),
                exe: seen.exe.as_deref().map(Untrusted::path),
                start_time: stat.starttime,
            });
        }
    }
    all.sort_by_key(|f| f.pid);
    Ok(all)
}
