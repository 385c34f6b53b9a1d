//! Borrowed memory: between `vfork` (or posix_spawn(3), or Go's `os/exec`) and `execve` a process runs in its parent's
//! memory, and probes that are bound to it would be set in the parent's mappings of the file at once.

use std::{fs, io, num::NonZeroU32};

use crate::process::{file::FileId, text_of};

/// `KCMP_VM` of linux/kcmp.h: whether two processes have the same memory.
const KCMP_VM: libc::c_int = 1;

/// Whether another process reads the file through the memory that this process runs in until its `execve`. A process
/// that runs the file itself does not count: the probes are made for that.
pub fn is_read_by_others(pid: NonZeroU32, file: FileId) -> bool {
    let maps = match fs::read(format!("/proc/{pid}/maps")) {
        Ok(maps) => String::from_utf8_lossy(&maps).into_owned(),
        // If the process is gone, it shares nothing. If it cannot be examined for another reason, it might.
        Err(e) => return e.kind() != io::ErrorKind::NotFound && e.raw_os_error() != Some(libc::ESRCH),
    };
    if !maps_privately(&maps, file.inode) {
        return false;
    }
    let exe = fs::metadata(format!("/proc/{pid}/exe"));
    if exe.is_ok_and(|exe| FileId::of(&exe) == file) {
        return false;
    }
    parent_of(pid).is_some_and(|parent| have_one_memory(pid.get(), parent))
}

/// Whether there is a private mapping of a file with this inode (proc_pid_maps(5)). The device is not compared: on some
/// file systems it differs from that of `stat`.
fn maps_privately(maps: &str, inode: u64) -> bool {
    maps.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (flags, its_inode) = (fields.next(), fields.nth(2));
        flags.is_some_and(|flags| flags.ends_with('p'))
            && its_inode.and_then(|inode| inode.parse().ok()) == Some(inode)
    })
}

fn parent_of(pid: NonZeroU32) -> Option<u32> {
    let status = text_of(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// Whether two processes have the same memory. Assumed where the kernel does not say.
fn have_one_memory(one: u32, other: u32) -> bool {
    // SAFETY: takes numbers.
    let answer = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) };
    answer <= 0
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn private_mappings_are_distinguished_from_shared_ones() {
        let maps = "7f00-7f01 r--p 00000000 fe:00 42 /bin/x\n7f02-7f03 r--s 00000000 fe:00 43 /bin/y\n\
                    7f04-7f05 rw-p 00000000 00:00 0\n";
        assert!(maps_privately(maps, 42) && !maps_privately(maps, 43) && !maps_privately(maps, 4));
    }

    #[test]
    fn a_child_that_runs_has_memory_of_its_own() {
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        assert!(!have_one_memory(child.id(), std::process::id()));
        assert!(have_one_memory(std::process::id(), std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
