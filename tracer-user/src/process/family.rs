//! What a process has started: a shell, a supervisor or an init of a container is not the program that is looked for, and
//! its child is.

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    path::Path,
};

use super::{file::ProgramFile, threads::folder};
use crate::{binary, escape::Untrusted};

/// Most threads of a process whose children are read.
const MOST_THREADS: usize = 1_024;
/// Most descendants that are looked at.
const MOST_DESCENDANTS: usize = 64;

/// The children of a process, in the order in which the kernel lists them; empty where it does not (without
/// CONFIG_PROC_CHILDREN), or they may not be seen.
pub fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut children = Vec::new();
    for thread in threads.flatten().take(MOST_THREADS) {
        let listed = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(listed.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    children
}

/// A descendant that runs a Go program: its PID and its program's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoDescendant {
    /// Its PID.
    pub pid: u32,
    /// Its program.
    pub exe: Untrusted,
}

/// The nearest descendant of a process that runs a Go program.
pub fn go_descendant(pid: u32) -> Option<GoDescendant> {
    let mut seen = BTreeSet::from([pid]);
    let mut queue = VecDeque::from(children_of(pid));
    while let Some(child) = queue.pop_front() {
        if seen.len() > MOST_DESCENDANTS {
            return None;
        }
        if !seen.insert(child) {
            continue;
        }
        let link = format!("{}/exe", folder(child));
        if is_go(Path::new(&link)) {
            let exe = fs::read_link(&link).map(|path| Untrusted::path(&path));
            return Some(GoDescendant {
                pid: child,
                exe: exe.unwrap_or_default(),
            });
        }
        queue.extend(children_of(child));
    }
    None
}

/// Whether the file at a path is a Go program.
pub fn is_go(path: &Path) -> bool {
    let mapped = ProgramFile::open(path).and_then(|file| file.map());
    mapped.is_ok_and(|bytes| binary::has_go(&bytes) && !bytes.was_cut())
}

/// Whether the name of a file is that of a dynamic loader, which can also be executed with a program as its argument.
pub fn is_loader(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let known = ["ld-linux", "ld-musl-", "ld.so", "ld64.so"];
    // `ld-2.31.so`, as glibc installed it until 2.34.
    let is_versioned = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains(".so");
    known.iter().any(|known| name.starts_with(known)) || name.strip_prefix("ld-").is_some_and(is_versioned)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_children_of_every_thread_are_found() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let found = children_of(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()), "{found:?}");
        assert!(children_of(u32::MAX).is_empty());
    }

    #[test]
    fn a_program_that_is_not_go_has_no_go_descendant() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        assert_eq!(go_descendant(child.id()), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_go(Path::new("/bin/sh")) && !is_go(Path::new("/nonexistent")));
    }

    #[test]
    fn loaders_are_known_by_their_names() {
        for name in [
            "/lib64/ld-linux-x86-64.so.2",
            "/lib/ld-linux-aarch64.so.1",
            "/lib/ld-musl-x86_64.so.1",
            "/usr/lib/x86_64-linux-gnu/ld-2.31.so",
            "/usr/bin/ld.so",
        ] {
            assert!(is_loader(Path::new(name)), "{name}");
        }
        for name in ["/usr/bin/ld", "/usr/bin/ld.gold", "/bin/ldd", "ld-thing", "/", ""] {
            assert!(!is_loader(Path::new(name)), "{name}");
        }
    }
}
