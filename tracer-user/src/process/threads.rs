//! The thread through which a process is read. A thread group lives on when its first thread ends by pthread_exit(3),
//! as that of a C program may that Go is linked into. Its PID is then that of a zombie: `/proc/PID/exe`, `maps` and
//! `mem` are empty, and those of any other thread are not.

use std::collections::HashMap;
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

/// Maps the ids of a process's threads in its own PID namespace to those in ours.
pub fn ids_in_ours(pid: u32) -> HashMap<u32, u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let pairs = tasks.filter_map(|task| namespaced(&fs::read(task.path().join("status")).ok()?));
    pairs.collect()
}

/// The id of a thread in its own PID namespace and in ours, by its `status`. The name in it may hold anything but line
/// ends.
fn namespaced(status: &[u8]) -> Option<(u32, u32)> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let ids = lines.find_map(|line| line.strip_prefix(b"NSpid:"))?;
    let ids = std::str::from_utf8(ids).ok()?;
    let mut ids = ids.split_ascii_whitespace().filter_map(|id| id.parse().ok());
    let ours: u32 = ids.next()?;
    Some((ids.next_back().unwrap_or(ours), ours))
}

/// Whether the ids of a process's threads are the same in its own PID namespace as in ours; `None` where that cannot be
/// seen.
pub fn shares_our_pid_namespace(pid: u32) -> Option<bool> {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/pid"));
    Some(namespace(&pid.to_string()).ok()? == namespace("self").ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_both_namespaces() {
        assert_eq!(namespaced(b"Name:\t\xff\nNSpid:\t4711\t17\t3\n"), Some((3, 4711)));
        assert_eq!(namespaced(b"Name:\tx\nNSpid:\t4711\n"), Some((4711, 4711)));
        for hostile in [&b""[..], b"NSpid:\t\xff\n", b"NSpid:\n", b"Pid:\t1\n"] {
            assert_eq!(namespaced(hostile), None);
        }
        let pid = std::process::id();
        assert_eq!(shares_our_pid_namespace(pid), Some(true));
        assert_eq!(shares_our_pid_namespace(u32::MAX), None);
        assert!(ids_in_ours(pid).values().any(|thread| *thread == pid));
    }

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
