//! File systems from which programs are executed, as `/proc/self/mountinfo` lists them (proc(5)).

use std::{collections::BTreeSet, path::PathBuf};

use crate::process::bytes::{lines, unescaped};

/// The list. poll(2) reports `POLLPRI` on it each time that it changes.
pub const MOUNTS: &str = "/proc/self/mountinfo";

/// File systems whose files we can open, whoever mounted them. The kernel would refuse to execute what it cannot open
/// for us, and on others (a user's FUSE, NFS that maps root to nobody) opening may fail, so they are not watched.
const WATCHED: [&str; 25] = [
    "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "msdos",
    "nilfs2", "ntfs3", "overlay", "ramfs", "reiserfs", "rootfs", "squashfs", "tmpfs", "ubifs", "udf", "vfat",
    "virtiofs", "xfs", "zfs",
];
/// The same by their numbers in statfs(2) (include/uapi/linux/magic.h, and the file systems' own sources).
const WATCHED_NUMBERS: [u32; 20] = [
    0xca45_1a4e, // bcachefs
    0x9123_683e, // btrfs
    0xe0f5_e1e2, // erofs
    0x2011_bab0, // exfat
    0xef53,      // ext2, ext3, ext4
    0xf2f5_2010, // f2fs
    0x9660,      // iso9660
    0x3153_464a, // jfs
    0x4d44,      // msdos, vfat
    0x3434,      // nilfs2
    0x7366_746e, // ntfs3
    0x794c_7630, // overlay
    0x8584_58f6, // ramfs, rootfs
    0x5265_4973, // reiserfs
    0x7371_7368, // squashfs
    0x0102_1994, // tmpfs
    0x2405_1905, // ubifs
    0x1501_3346, // udf
    0x5846_5342, // xfs
    0x2fc1_2fc1, // zfs
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

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Its type.
    pub kind: String,
    /// A place where it is mounted.
    pub at: PathBuf,
    /// Whether starts of its programs can be held.
    pub watched: bool,
}

/// Whether a file system of this type (`f_type` of statfs(2)) opens every file of it for us.
pub fn opens_for_us(kind: i64) -> bool {
    // A word of 32 bits, in a wider field.
    let number = u32::try_from(kind & 0xffff_ffff).unwrap_or(0);
    WATCHED_NUMBERS.contains(&number)
}

/// The file systems that can hold programs, each once, in the order of the list. A mount that a later one covers is
/// left out.
pub fn listed(list: impl AsRef<[u8]>) -> Vec<Mounted> {
    // Sets: a host of many containers has thousands of mounts, and the list is read again at each change.
    let (mut devices, mut places) = (BTreeSet::new(), BTreeSet::new());
    let mut mounted: Vec<Mounted> = Vec::new();
    // Of several mounts at a place, the last is visible.
    for line in lines(list.as_ref()).rev() {
        let Some((device, of_line)) = parsed(line) else {
            continue;
        };
        let is_seen = places.insert(of_line.at.clone());
        if is_seen && !WITHOUT_PROGRAMS.contains(&of_line.kind.as_str()) && devices.insert(device) {
            mounted.push(of_line);
        }
    }
    mounted.reverse();
    mounted
}

/// Parses a line, such as `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, into the
/// device and the mount.
fn parsed(line: &[u8]) -> Option<(Vec<u8>, Mounted)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (device, at) = (fields.nth(2)?, fields.nth(1)?);
    // Any number of optional fields, up to a hyphen.
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let kind = String::from_utf8_lossy(kind).into_owned();
    Some((
        device.to_owned(),
        Mounted {
            watched: WATCHED.contains(&kind.as_str()),
            kind,
            at: unescaped(at),
        },
    ))
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
        let found = listed([list.as_bytes(), b"31 27 0:27 / /\xff rw - tmpfs none rw\n"].concat());
        let (last, found) = found.split_last().expect("there are some");
        assert_eq!(last.at.as_os_str().as_encoded_bytes(), b"/\xff");
        let listed: Vec<_> = found
            .iter()
            .map(|m| (m.kind.as_str(), m.at.to_str().unwrap(), m.watched))
            .collect();
        assert_eq!(
            listed,
            [
                ("ext4", "/var/home", true),
                ("tmpfs", "/with space", true),
                ("nfs4", "/net", false)
            ]
        );
    }

    #[test]
    fn the_root_and_memory_open_everything_and_proc_does_not() {
        let kind = |path: &str| rustix::fs::statfs(path).unwrap().f_type;
        assert!(opens_for_us(kind("/dev/shm")));
        assert!(!opens_for_us(kind("/proc")));
        assert!(!opens_for_us(0x6573_5546), "FUSE");
        assert!(
            opens_for_us(0xffff_ffff_9123_683e_u64 as i64),
            "a sign is no part of it"
        );
    }

    #[test]
    fn what_is_mounted_over_is_not_named() {
        let list = "25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw\n30 25 0:27 / /dev/shm rw - tmpfs tmpfs rw\n";
        assert_eq!(listed(list).len(), 1);
        let list = "25 24 0:23 / /mnt rw - tmpfs tmpfs rw\n30 25 0:27 / /mnt rw - proc proc rw\n";
        assert_eq!(listed(list), [], "what is looked up there is in /proc");
    }
}
