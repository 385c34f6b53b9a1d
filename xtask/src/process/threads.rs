//! A command and its descendants, when it has to be killed: what their threads wait for, and their end.

use std::fmt::Write as _;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// How deep descendants are followed.
const MAX_DEPTH: usize = 16;

/// A process and its descendants, each with its depth below it.
#[derive(Debug)]
pub(super) struct Tree(Vec<(usize, u32)>);

impl Tree {
    /// Finds the descendants of a process. Those whose parent has exited are not among them.
    pub(super) fn of(pid: u32) -> Self {
        let mut tree = Self(Vec::new());
        tree.add(pid, 0);
        tree
    }

    fn add(&mut self, pid: u32, depth: usize) {
        self.0.push((depth, pid));
        if depth == MAX_DEPTH {
            return;
        }
        for thread in threads(pid) {
            let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
                self.add(child, depth + 1);
            }
        }
    }

    /// Each thread: its name, its state, and what the kernel reports of where it waits. What cannot be read, since the
    /// thread has ended or this process is not root, is left out.
    pub(super) fn describe(&self) -> String {
        let mut described = String::new();
        for &(depth, pid) in &self.0 {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            _ = writeln!(described, "{:1$}process {pid}: {command}", "", depth * 2);
            for thread in threads(pid) {
                let read = |file: &str| fs::read_to_string(thread.join(file)).unwrap_or_default();
                let status = read("status");
                let state = status.lines().find_map(|line| line.strip_prefix("State:"));
                _ = writeln!(
                    described,
                    "{:1$}{2}: {3}, system call {4}",
                    "",
                    depth * 2 + 2,
                    read("comm").trim_end(),
                    state.unwrap_or_default().trim(),
                    read("syscall").trim_end(),
                );
                for frame in read("stack").lines() {
                    _ = writeln!(described, "{:1$}{frame}", "", depth * 2 + 4);
                }
            }
        }
        described
    }

    /// Kills all of them, parents first, so that none of them starts another in place of one that has ended.
    pub(super) fn kill(&self) {
        for &(_, pid) in &self.0 {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // Fails for those that have exited meanwhile.
                _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// The folders of a process's threads in /proc.
fn threads(pid: u32) -> impl Iterator<Item = std::path::PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    threads
        .into_iter()
        .flatten()
        .flatten()
        .map(|thread| thread.path())
}
