//! The process and thread that are about to execute a program.

use std::num::NonZeroU32;

use crate::{bpf::linker::Task, process::text_of};

/// A thread that is in `execve`, and its process, both in our PID namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecCaller {
    /// The process; 0 if it has no id in that namespace.
    pub pid: u32,
    tid: u32,
}

impl ExecCaller {
    /// The process of the thread that fanotify names (`FAN_REPORT_TID`).
    pub fn of(tid: u32) -> Self {
        let pid = match tid == 0 || is_leader(tid) {
            true => tid,
            false => process_of(tid).unwrap_or(tid),
        };
        Self { pid, tid }
    }

    /// The thread as the linker takes it; `None` if it has no id in our PID namespace.
    pub fn task(self) -> Option<Task> {
        Some(Task {
            tid: NonZeroU32::new(self.tid)?,
            is_leader: self.tid == self.pid,
        })
    }
}

/// Whether a thread is the first of its process, and thus has the process's id. Saves most look-ups in /proc.
fn is_leader(tid: u32) -> bool {
    // SAFETY: takes numbers; signal 0 only asks whether thread `tid` of process `tid` exists.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, tid, tid, 0) };
    // EPERM: it exists, and we may not signal it.
    answer == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// The `Tgid` of a thread (proc_pid_status(5)).
fn process_of(tid: u32) -> Option<u32> {
    let status = text_of(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_known_by_its_process() {
        let pid = std::process::id();
        let first = ExecCaller::of(pid);
        assert!(first.pid == pid && first.task().unwrap().is_leader);
        let other =
            std::thread::spawn(|| ExecCaller::of(u32::try_from(nix::unistd::gettid().as_raw()).unwrap()));
        let other = other.join().unwrap();
        assert!(other.pid == pid && !other.task().unwrap().is_leader, "{other:?}");
        assert_eq!(ExecCaller::of(0).task(), None);
    }
}
