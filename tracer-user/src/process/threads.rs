//! The thread through which a process is read. A thread group lives on when its first thread ends by pthread_exit(3),
//! as that of a C program may that Go is linked into. Its PID is then that of a zombie: `/proc/PID/exe`, `maps` and
//! `mem` are empty, and those of any other thread are not.

use std::fs;

/// The oldest living thread of a process: its first one, which has the id of the process, unless that has ended. The
/// threads that a runtime makes at its start stay, so the oldest is the one to rely on. `None` if none lives.
pub fn living_thread(pid: u32) -> Option<u32> {
    if is_alive(pid, pid) {
        return Some(pid);
    }
    // In the order in which they were made.
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut threads = tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok());
    threads.find(|thread| is_alive(pid, *thread))
}

/// The folder of /proc in which a process is read: its own, or that of its oldest living thread if its first one has
/// ended.
pub fn folder(pid: u32) -> String {
    folder_of(pid, living_thread(pid).unwrap_or(pid))
}

/// The folder of a thread. Below that of its process, so that a thread of another process is not found there if the
/// id was reused.
pub fn folder_of(pid: u32, thread: u32) -> String {
    match thread == pid {
        true => format!("/proc/{pid}"),
        false => format!("/proc/{pid}/task/{thread}"),
    }
}

/// Whether a process has this thread, and it has not ended.
pub fn is_alive(pid: u32, thread: u32) -> bool {
    let stat = fs::read(format!("{}/stat", folder_of(pid, thread)));
    stat.is_ok_and(|stat| state(&stat).is_some_and(|state| !matches!(state, b'Z' | b'X' | b'x')))
}

/// The state in a `stat` of /proc, which comes after the name (proc_pid_stat(5)). The name may hold anything.
pub fn state(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end.checked_add(2)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        assert_eq!(state(b"12 (a) Z) S 1 2"), Some(b'S'));
        assert_eq!(state(b"12 (\xd0\xbf\xd0) Z 1 2"), Some(b'Z'));
        for hostile in [&b""[..], b")", b"1 (x", b"1 (x)"] {
            assert_eq!(state(hostile), None);
        }
    }

    #[test]
    fn the_first_thread_is_taken_as_long_as_it_lives() {
        let pid = std::process::id();
        assert_eq!(living_thread(pid), Some(pid));
        assert_eq!(folder(pid), format!("/proc/{pid}"));
        assert_eq!(folder_of(1, 2), "/proc/1/task/2");
        assert_eq!(living_thread(u32::MAX), None);
    }
}
