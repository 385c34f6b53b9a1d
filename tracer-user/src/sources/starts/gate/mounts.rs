//! File systems from which programs are executed, as `/proc/self/mountinfo` lists them (proc(5)).

use std::{collections::BTreeSet, ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf};

/// Where they are listed. Readable with an exception each time that the list changes (poll(2)).
pub const MOUNTS: &str = "/proc/self/mountinfo";

/// File systems whose files are ours to open, whoever mounted them. What the kernel cannot open for us it would let
/// nobody execute: of others (FUSE of a user's, NFS that maps root to nobody) that is not sure, so they are left alone.
const WATCHED: [&str; 25] = [
    "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "msdos",
    "nilfs2", "ntfs3", "overlay", "ramfs", "reiserfs", "rootfs", "squashfs", "tmpfs", "ubifs", "udf", "vfat",
    "virtiofs", "xfs", "zfs",
];
/// File systems that hold no programs.
const WITHOUT_PROGRAMS: [&str; 24] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];

/// A file system, and a place where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Its type.
    pub kind: String,
    /// Where.
    pub at: PathBuf,
    /// Whether starts of its programs can be held.
    pub watched: bool,
}

/// Those that hold programs, each once, in the order of the list. (A file system may be mounted over another: hence
/// every place of one is named until a later line with the same place covers it.)
pub fn listed(list: &str) -> Vec<Mounted> {
    let mut devices = BTreeSet::new();
    let mut mounted: Vec<Mounted> = Vec::new();
    // The last that is mounted at a place is the one that is seen there.
    for line in list.lines().rev() {
        let Some((device, of_line)) = parsed(line) else {
            continue;
        };
        let covered = mounted.iter().any(|later| later.at == of_line.at);
        if !covered && !WITHOUT_PROGRAMS.contains(&of_line.kind.as_str()) && devices.insert(device) {
            mounted.push(of_line);
        }
    }
    mounted.reverse();
    mounted
}

/// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue`: device and the rest.
fn parsed(line: &str) -> Option<(String, Mounted)> {
    let (before, behind) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(2);
    let (device, at) = (fields.next()?, fields.nth(1)?);
    let kind = behind.split(' ').next()?;
    Some((
        device.to_owned(),
        Mounted {
            watched: WATCHED.contains(&kind),
            kind: kind.to_owned(),
            at: unescaped(at),
        },
    ))
}

/// Space, tab, newline and backslash stand there as `\040` and so on.
fn unescaped(path: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| *first == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_system_with_programs_is_named_once() {
        let list = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                    27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                    28 27 254:0 /home /var/home rw shared:1 - ext4 /dev/vda rw\n\
                    29 27 0:25 / /with\\040space ro,nosuid - tmpfs none ro\n\
                    30 27 0:26 / /net rw - nfs4 server:/ rw\n\
                    odd line\n";
        let found = listed(list);
        let told: Vec<_> = found
            .iter()
            .map(|m| (m.kind.as_str(), m.at.to_str().unwrap(), m.watched))
            .collect();
        assert_eq!(
            told,
            [
                ("ext4", "/var/home", true),
                ("tmpfs", "/with space", true),
                ("nfs4", "/net", false)
            ]
        );
    }

    #[test]
    fn what_is_mounted_over_is_not_named() {
        let list = "25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw\n30 25 0:27 / /dev/shm rw - tmpfs tmpfs rw\n";
        assert_eq!(listed(list).len(), 1);
    }
}
