//! Reads again and again by how much the throttling of a process has grown.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::{Hierarchies, Throttled};
use crate::process::threads::folder;

/// How often the process's cgroups and their limits are looked up: it may be moved, and a limit may be set or lifted.
const LOOK_EVERY_NS: u64 = 1_000_000_000;
/// How much of a `cpu.stat` is read: what is counted of throttling is within its first lines.
const MOST: usize = 4096;

/// What was added to the throttling of a process between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewlyThrottled {
    /// Throttled time, summed over CPUs, in nanoseconds.
    pub time_ns: u64,
    /// Periods in which a quota was used up.
    pub periods: u64,
}

/// Watches the throttling of the cgroup of a process, and of those above it.
///
/// Only those that have a quota are read. Their `cpu.stat` are kept open, so that a reading takes one system call for each;
/// in cgroup v2 the kernel sums up the counters of all CPUs in it.
#[derive(Debug)]
pub struct ThrottleWatch {
    pid: u32,
    hierarchies: Hierarchies,
    levels: Vec<Level>,
    /// When the cgroups were last looked up.
    looked_ns: u64,
}

/// A cgroup with a quota.
#[derive(Debug)]
struct Level {
    path: PathBuf,
    file: File,
    last: Throttled,
}

impl ThrottleWatch {
    /// Begins to watch a process: what is counted from now on.
    pub fn new(pid: u32, now_ns: u64) -> Self {
        let mut watch = Self::over(pid, Hierarchies::mounted());
        watch.look(&cgroups_of(pid), now_ns);
        watch
    }

    fn over(pid: u32, hierarchies: Hierarchies) -> Self {
        Self {
            pid,
            hierarchies,
            levels: Vec::new(),
            looked_ns: 0,
        }
    }

    /// Returns what was added since the last reading; `None` where nothing was. Of several cgroups the largest figure is
    /// taken: while one above is throttled, the time of one below that has used up its own quota continues to count, so
    /// that a sum would have the same stretch twice.
    pub fn read(&mut self, now_ns: u64) -> Option<NewlyThrottled> {
        self.read_with(now_ns, cgroups_of)
    }

    /// Reads, with `list` for the content of `/proc/PID/cgroup`.
    fn read_with(&mut self, now_ns: u64, list: impl FnOnce(u32) -> Vec<u8>) -> Option<NewlyThrottled> {
        let added = self.added();
        if now_ns.saturating_sub(self.looked_ns) >= LOOK_EVERY_NS {
            let list = list(self.pid);
            self.look(&list, now_ns);
        }
        added
    }

    fn added(&mut self) -> Option<NewlyThrottled> {
        let mut most = NewlyThrottled::default();
        // A cgroup that was removed cannot be read any more.
        self.levels.retain_mut(|level| {
            let added = level.added();
            let NewlyThrottled { time_ns, periods } = added.unwrap_or_default();
            most.time_ns = most.time_ns.max(time_ns);
            most.periods = most.periods.max(periods);
            added.is_some()
        });
        (most != NewlyThrottled::default()).then_some(most)
    }

    /// Looks up which cgroups the process is in now, and which of them have a quota. What a new one has counted before does
    /// not belong to the process.
    fn look(&mut self, list: &[u8], now_ns: u64) {
        self.looked_ns = now_ns;
        let mut before = std::mem::take(&mut self.levels);
        for path in self.hierarchies.of(list).limited() {
            let known = before.iter().position(|level| level.path == path);
            let level = match known {
                Some(index) => Some(before.swap_remove(index)),
                None => Level::open(path),
            };
            self.levels.extend(level);
        }
    }
}

impl Level {
    fn open(path: PathBuf) -> Option<Self> {
        let file = File::open(&path).ok()?;
        let last = read(&file)?;
        Some(Self { path, file, last })
    }

    /// What was added since the last call; `None` where the file cannot be read.
    fn added(&mut self) -> Option<NewlyThrottled> {
        let now = read(&self.file)?;
        let before = std::mem::replace(&mut self.last, now);
        Some(NewlyThrottled {
            time_ns: now.time_ns.saturating_sub(before.time_ns),
            periods: now.throttled_periods.saturating_sub(before.throttled_periods),
        })
    }
}

/// Reads an open `cpu.stat` from its beginning.
fn read(file: &File) -> Option<Throttled> {
    let mut buffer = [0; MOST];
    let length = file.read_at(&mut buffer, 0).ok()?;
    let text = std::str::from_utf8(buffer.get(..length)?).ok()?;
    Throttled::parse(text)
}

fn cgroups_of(pid: u32) -> Vec<u8> {
    fs::read(format!("{}/cgroup", folder(pid))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Mounted;
    use super::*;

    const SECOND: u64 = LOOK_EVERY_NS;

    fn watch(unified: bool, point: &Path) -> ThrottleWatch {
        let mounted = Mounted {
            unified,
            root: "/".into(),
            point: point.to_owned(),
        };
        ThrottleWatch::over(0, Hierarchies(vec![mounted]))
    }

    fn count(folder: &Path, periods: u64, us: u64) {
        let text = format!(
            "usage_usec 5\nnr_periods 90\nnr_throttled {periods}\nthrottled_usec {us}\nnr_bursts 0\n"
        );
        fs::write(folder.join("cpu.stat"), text).unwrap();
    }

    fn added(time_ns: u64, periods: u64) -> Option<NewlyThrottled> {
        Some(NewlyThrottled { time_ns, periods })
    }

    #[test]
    fn what_is_added_is_that_of_the_level_with_the_most() {
        let top = tempfile::tempdir().unwrap();
        let pod = top.path().join("pod");
        let container = pod.join("container");
        fs::create_dir_all(&container).unwrap();
        for (folder, limit) in [(&pod, "50000 100000\n"), (&container, "20000 100000\n")] {
            fs::write(folder.join("cpu.max"), limit).unwrap();
            count(folder, 3, 1_000);
        }
        let mut watch = watch(true, top.path());
        let mut read = |now_ns| watch.read_with(now_ns, |_| b"0::/pod/container\n".to_vec());
        // The first look: what had been counted by then does not count.
        assert_eq!(read(SECOND), None);
        assert_eq!(read(SECOND + 1), None);
        count(&container, 4, 1_070);
        assert_eq!(read(SECOND + 2), added(70_000, 1));
        count(&container, 5, 1_100);
        count(&pod, 4, 1_050);
        assert_eq!(read(SECOND + 3), added(50_000, 1));
        // A period is counted before the time is.
        count(&container, 6, 1_100);
        assert_eq!(read(SECOND + 4), added(0, 1));
        assert_eq!(read(3 * SECOND), None);
    }

    #[test]
    fn a_quota_that_is_set_and_a_process_that_is_moved_are_seen_within_a_second() {
        let top = tempfile::tempdir().unwrap();
        let (one, other) = (top.path().join("one"), top.path().join("other"));
        for folder in [&one, &other] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("cpu.max"), "max 100000\n").unwrap();
            count(folder, 1, 1_000);
        }
        let mut watch = watch(true, top.path());
        let mut looks = 0;
        let mut read = |now_ns, list: &str| {
            watch.read_with(now_ns, |_| {
                looks += 1;
                list.as_bytes().to_vec()
            })
        };
        assert_eq!(read(SECOND, "0::/one\n"), None);
        // Without a quota nothing is read.
        count(&one, 2, 2_000);
        assert_eq!(read(SECOND + 1, "0::/one\n"), None);
        fs::write(one.join("cpu.max"), "20000 100000\n").unwrap();
        assert_eq!(read(2 * SECOND, "0::/one\n"), None);
        count(&one, 3, 2_500);
        assert_eq!(read(2 * SECOND + 1, "0::/one\n"), added(500_000, 1));
        // What the new one counted before the process came is not taken for the process's.
        fs::write(other.join("cpu.max"), "20000 100000\n").unwrap();
        count(&one, 4, 2_600);
        assert_eq!(read(3 * SECOND, "0::/other\n"), added(100_000, 1));
        count(&one, 9, 9_999);
        count(&other, 2, 1_001);
        assert_eq!(read(3 * SECOND + 1, "0::/other\n"), added(1_000, 1));
        assert_eq!(looks, 3, "once a second at most");
    }

    #[test]
    fn a_file_that_cannot_be_read_any_more_is_opened_again() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("cpu.cfs_quota_us"), "20000\n").unwrap();
        fs::write(top.path().join("cpu.cfs_period_us"), "100000\n").unwrap();
        let stat = top.path().join("cpu.stat");
        let count = |ns: u64| {
            let text = format!("nr_periods 4\nnr_throttled 1\nthrottled_time {ns}\n");
            fs::write(&stat, text).unwrap();
        };
        count(10);
        let mut watch = watch(false, top.path());
        let mut read = |now_ns| watch.read_with(now_ns, |_| b"4:cpu,cpuacct:/\n".to_vec());
        assert_eq!(read(SECOND), None);
        count(25);
        assert_eq!(read(SECOND + 1), added(15, 0));
        // As that of a removed cgroup: it is open, and has nothing in it.
        fs::write(&stat, "").unwrap();
        assert_eq!(read(SECOND + 2), None);
        count(40);
        assert_eq!(read(SECOND + 3), None);
        assert_eq!(read(2 * SECOND), None);
        count(47);
        assert_eq!(read(2 * SECOND + 1), added(7, 0));
    }
}
