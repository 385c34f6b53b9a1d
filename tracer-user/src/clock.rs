//! The one clock: CLOCK_MONOTONIC of the host, that is, of the initial time namespace. The kernel side's time stamps
//! (`bpf_ktime_get_ns`) are on it wherever gmpscope and its target run.
//!
//! What a process reads as CLOCK_MONOTONIC is off by the offset of its time namespace (time_namespaces(7)): CRIU and
//! container runtimes make such. That holds for Go's `nanotime`, whose values lie in the target's memory, and for our
//! own clock_gettime(2). Each is translated where it enters, by a [`ClockOffset`]; all other code knows one clock.
//! (CLOCK_MONOTONIC_RAW is no way round it, since it is shifted as well.)

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rustix::time::{ClockId, clock_gettime};

/// Inode of the initial time namespace (`PROC_TIME_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_TIME_NAMESPACE: u64 = 0xefff_fffa;

/// The offset of our own time namespace.
static OURS: OnceLock<ClockOffset> = OnceLock::new();

/// The current time in nanoseconds. The first call reads /proc; later ones may be made by a signal handler.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    let here = seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
    OURS.get_or_init(ours).to_host(here)
}

fn ours() -> ClockOffset {
    ClockOffset::of(Path::new("/proc/self")).unwrap_or_else(|| {
        log::warn!(
            "gmpscope runs in a time namespace whose offset is not known: times of the kernel and its own do not match"
        );
        ClockOffset::NONE
    })
}

/// How far a process's CLOCK_MONOTONIC is ahead of the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset(i64);

impl ClockOffset {
    /// That of the initial time namespace, and of a kernel without time namespaces.
    pub const NONE: Self = Self(0);

    /// An offset of so many nanoseconds.
    pub const fn from_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// The offset in nanoseconds; negative where the process's clock is behind.
    pub const fn ns(self) -> i64 {
        self.0
    }

    /// Translates a time that the process has read to the host's clock.
    pub const fn to_host(self, ns: u64) -> u64 {
        ns.saturating_add_signed(self.0.saturating_neg())
    }

    /// Reads the offset of the process or thread with this folder of /proc. `None` if it is in a time namespace
    /// whose offset cannot be found, or may not be read.
    ///
    /// `timens_offsets` has the offsets of the namespace in which the process's *children* are. Its own is the same
    /// unless it has called unshare(2) itself and neither been forked since nor (on newer kernels) executed another
    /// program: then the offset is that of any process whose children are in the namespace, if there is one.
    pub fn of(proc: &Path) -> Option<Self> {
        let shown = || offsets_at(proc);
        let (own, of_children) = (
            namespace(proc, "ns/time"),
            namespace(proc, "ns/time_for_children"),
        );
        match (own, of_children) {
            (Some(INITIAL_TIME_NAMESPACE), _) => Some(Self::NONE),
            (Some(own), Some(of_children)) if own != of_children => {
                parents_of(own).iter().find_map(|parent| offsets_at(parent))
            }
            // One that may not be read: then a link is as hidden as the process's memory.
            _ => shown(),
        }
    }
}

/// Reads the offset of CLOCK_MONOTONIC in a `timens_offsets`: none where the kernel has no time namespaces (before
/// Linux 5.6, or built without them).
fn offsets_at(proc: &Path) -> Option<ClockOffset> {
    match fs::read(proc.join("timens_offsets")) {
        Ok(bytes) => parse(&String::from_utf8_lossy(&bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound && proc.exists() => Some(ClockOffset::NONE),
        Err(_) => None,
    }
}

/// Parses lines such as `monotonic      -1000         0`: seconds and nanoseconds. Linux 5.6 has the number of the
/// clock in place of its name. A process that has ended has no lines.
fn parse(text: &str) -> Option<ClockOffset> {
    text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let clock = fields.next()?;
        let seconds: i64 = fields.next()?.parse().ok()?;
        let nanoseconds: i64 = fields.next()?.parse().ok()?;
        let ns = seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)?;
        matches!(clock, "monotonic" | "1").then_some(ClockOffset(ns))
    })
}

/// The inode of a namespace, from a link such as `time:[4026531834]`.
fn namespace(proc: &Path, link: &str) -> Option<u64> {
    let link = fs::read_link(proc.join(link)).ok()?;
    let (_, inode) = link.to_str()?.strip_suffix(']')?.split_once(":[")?;
    inode.parse().ok()
}

/// The processes whose children are in a time namespace.
fn parents_of(namespace_inode: u64) -> Vec<PathBuf> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = all
        .map(|entry| entry.path())
        .filter(|path| namespace(path, "ns/time_for_children") == Some(namespace_inode));
    processes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_in_all_spellings() {
        let offset = |text: &str| parse(text).map(ClockOffset::ns);
        assert_eq!(
            offset("monotonic           0         0\nboottime            0         0\n"),
            Some(0)
        );
        assert_eq!(
            offset("monotonic       -1000         0\nboottime           86400         0\n"),
            Some(-1_000_000_000_000)
        );
        // The nanoseconds are added, whatever the sign of the seconds.
        assert_eq!(offset("monotonic  -2 250000000\n"), Some(-1_750_000_000));
        assert_eq!(offset("7 5 0\n1 3 7\n"), Some(3_000_000_007));
        for hostile in [
            "",
            "\n\n",
            "monotonic",
            "monotonic 1",
            "monotonic x 0",
            "boottime 1 0",
        ] {
            assert_eq!(offset(hostile), None, "{hostile:?}");
        }
        assert_eq!(offset(&format!("monotonic {} 0", i64::MAX)), None);
    }

    #[test]
    fn times_of_a_namespace_become_those_of_the_host() {
        let behind = ClockOffset::from_ns(-1_000);
        assert_eq!(behind.to_host(30), 1_030);
        assert_eq!(ClockOffset::from_ns(1_000).to_host(1_030), 30);
        assert_eq!(ClockOffset::NONE.to_host(7), 7);
        // A word that is not a time.
        assert_eq!(ClockOffset::from_ns(8).to_host(3), 0);
        assert_eq!(ClockOffset::from_ns(i64::MIN).to_host(u64::MAX), u64::MAX);
    }

    #[test]
    fn our_own_offset_is_known() {
        let ours = Path::new("/proc/self");
        let offset = ClockOffset::of(ours).expect("it is readable");
        let here = clock_gettime(ClockId::Monotonic);
        let here = here.tv_sec * 1_000_000_000 + here.tv_nsec;
        let host = i64::try_from(now_ns()).expect("it is less than 292 years");
        assert!((host + offset.ns() - here).abs() < 60_000_000_000, "{offset:?}");
        assert_eq!(namespace(ours, "ns/no such link"), None);
        assert_eq!(ClockOffset::of(Path::new("/proc/no such process")), None);
    }
}
