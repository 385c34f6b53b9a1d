//! The CPU limit of a process's cgroups, how often it was throttled, and whether they are frozen.

mod throttle_watch;
mod throttling;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

pub use throttle_watch::{NewlyThrottled, ThrottleWatch};
pub use throttling::{Throttled, Throttling};

use super::bytes::{lines, unescaped};

/// The controller of v1 that limits CPU time.
const CPU: &[u8] = b"cpu";
/// The controller of v1 that freezes.
const FREEZER: &[u8] = b"freezer";

/// The mounted cgroup file systems that we can see. The cost of reading them grows with the number of mounts, so this
/// is kept where many processes are examined.
#[derive(Clone, Debug, Default)]
pub struct Hierarchies(Vec<Mounted>);

#[derive(Clone, Debug)]
struct Mounted {
    /// Whether it is cgroup v2; if not, it is that of v1 with the controller that was asked for.
    unified: bool,
    /// The cgroup at the mount point: a mount may show only a subtree.
    root: PathBuf,
    point: PathBuf,
}

/// The cgroups of a process that may limit its CPU time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups(Vec<Place>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    unified: bool,
    /// The mount point.
    top: PathBuf,
    /// The cgroup's directory.
    dir: PathBuf,
}

/// The file that says whether a cgroup is frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freezer {
    /// `cgroup.events` of v2, `freezer.state` of v1.
    file: PathBuf,
    unified: bool,
}

impl Freezer {
    /// The freezers of the cgroups that a process is in, by the content of its `/proc/PID/cgroup`.
    pub fn all_of(cgroups: &[u8]) -> Vec<Self> {
        Self::among(&Mounted::all(FREEZER), cgroups)
    }

    fn among(mounted: &[Mounted], cgroups: &[u8]) -> Vec<Self> {
        let places = Place::all_of(mounted, cgroups, FREEZER).into_iter();
        let freezers = places.map(|place| Self {
            file: place.dir.join(match place.unified {
                true => "cgroup.events",
                false => "freezer.state",
            }),
            unified: place.unified,
        });
        freezers.collect()
    }

    /// Whether the cgroup is frozen now, itself or with an ancestor.
    pub fn is_frozen(&self) -> bool {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        match self.unified {
            true => text.lines().any(|line| line == "frozen 1"),
            false => text.trim() == "FROZEN",
        }
    }
}

impl Hierarchies {
    /// Reads what is mounted; nothing if that cannot be read.
    pub fn mounted() -> Self {
        Self(Mounted::all(CPU))
    }

    /// The cgroups that a process is in, by the content of its `/proc/PID/cgroup`.
    pub fn of(&self, cgroups: impl AsRef<[u8]>) -> Cgroups {
        Cgroups(Place::all_of(&self.0, cgroups.as_ref(), CPU))
    }
}

impl Mounted {
    /// Reads which cgroup file systems of v2, and of v1 with this controller, are mounted; nothing if that cannot be read.
    fn all(controller: &[u8]) -> Vec<Self> {
        let list = fs::read("/proc/self/mountinfo").unwrap_or_default();
        lines(&list)
            .filter_map(|line| Self::parse(line, controller))
            .collect()
    }

    /// Parses a line of mountinfo (proc_pid_mountinfo(5)), such as
    /// `36 35 0:32 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw`, if it is of such a file system.
    fn parse(line: &[u8], controller: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        // Any number of optional fields, up to a hyphen.
        let mut behind = fields.skip_while(|field| *field != b"-").skip(1);
        let kind = behind.next()?;
        let unified = kind == b"cgroup2";
        let mut options = behind.nth(1).unwrap_or_default().split(|byte| *byte == b',');
        let legacy = kind == b"cgroup" && options.any(|option| option == controller);
        (unified || legacy).then(|| Self {
            unified,
            root: unescaped(root),
            point: unescaped(point),
        })
    }

    fn place(&self, cgroup: &[u8]) -> Option<Place> {
        let below = Path::new(OsStr::from_bytes(cgroup))
            .strip_prefix(&self.root)
            .ok()?;
        // "/../x": outside our cgroup namespace, not visible.
        if below.components().any(|c| matches!(c, Component::ParentDir)) {
            return None;
        }
        Some(Place {
            unified: self.unified,
            top: self.point.clone(),
            dir: self.point.join(below),
        })
    }
}

impl Cgroups {
    /// The least limit of the cgroups and their ancestors, in CPUs; `None` if none has one.
    pub fn cpu_limit(&self) -> Option<f64> {
        let limits = self.0.iter().flat_map(Place::up).filter_map(|here| here.limit());
        limits.reduce(f64::min)
    }

    /// The throttling of the nearest cgroup that has a limit, or else of the process's own; `None` if it is not known.
    pub fn throttled(&self) -> Option<Throttled> {
        self.throttling().iter().find_map(Throttling::read)
    }

    /// The `cpu.stat` of each cgroup that has a limit: of the process's own, and of those above.
    fn limited(&self) -> Vec<PathBuf> {
        let limited = self
            .0
            .iter()
            .flat_map(Place::up)
            .filter(|here| here.limit().is_some());
        limited.map(|here| here.dir.join("cpu.stat")).collect()
    }

    /// The files that count how long each cgroup that has a limit was throttled: of the process's own, and of those above.
    pub fn limited_throttling(&self) -> Vec<Throttling> {
        self.limited().into_iter().map(Throttling).collect()
    }

    /// The files from which [`Self::throttled`] is read, to be kept for repeated readings: they change with the
    /// limits.
    pub fn throttling(&self) -> Vec<Throttling> {
        let files = self.0.iter().map(|own| {
            let limited = own.up().find(|here| here.limit().is_some());
            Throttling(limited.as_ref().unwrap_or(own).dir.join("cpu.stat"))
        });
        files.collect()
    }
}

impl Place {
    /// The places of the cgroups that a process is in, by the content of its `/proc/PID/cgroup`: of v2, and of v1 that
    /// with this controller.
    fn all_of(mounted: &[Mounted], cgroups: &[u8], controller: &[u8]) -> Vec<Self> {
        let places = lines(cgroups).filter_map(|line| {
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let unified = hierarchy == b"0";
            let mut controllers = controllers.split(|byte| *byte == b',');
            if !unified && !controllers.any(|name| name == controller) {
                return None;
            }
            mounted
                .iter()
                .filter(|mounted| mounted.unified == unified)
                .find_map(|mounted| mounted.place(path))
        });
        places.collect()
    }

    /// The cgroup and its ancestors up to the mount point.
    fn up(&self) -> impl Iterator<Item = Self> {
        let begin = Some(self.clone());
        std::iter::successors(begin, |here| {
            let above = here.dir.parent().filter(|_| here.dir != here.top)?;
            Some(Self {
                dir: above.to_owned(),
                ..here.clone()
            })
        })
    }

    fn limit(&self) -> Option<f64> {
        if self.unified {
            unified_limit(&self.dir)
        } else {
            legacy_limit(&self.dir)
        }
    }
}

/// The directories of the cgroups of a controller that a process is in, and of those above them, by the content of its
/// `/proc/PID/cgroup`; and whether each is of v2.
pub(super) fn folders_of(controller: &[u8], cgroups: &[u8]) -> Vec<(PathBuf, bool)> {
    let places = Place::all_of(&Mounted::all(controller), cgroups, controller);
    let all = places.iter().flat_map(Place::up);
    all.map(|place| (place.dir, place.unified)).collect()
}

/// cgroup v2: "max 100000" or "50000 100000", in microseconds per period.
pub(super) fn unified_limit(dir: &Path) -> Option<f64> {
    let text = fs::read_to_string(dir.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota.parse().ok()?, period.parse().ok()?)
}

/// cgroup v1, where a quota of -1 means no limit.
pub(super) fn legacy_limit(dir: &Path) -> Option<f64> {
    let read = |name| {
        let text = fs::read_to_string(dir.join(name)).ok()?;
        text.trim().parse::<f64>().ok()
    };
    ratio(read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
}

fn ratio(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(unified: bool, root: &str, point: &Path) -> Mounted {
        Mounted {
            unified,
            root: root.into(),
            point: point.to_owned(),
        }
    }

    #[test]
    fn mounts_and_cgroups_may_have_any_name() {
        let parse = |line: &[u8]| {
            let found = Mounted::parse(line, CPU)?;
            let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
            Some((found.unified, bytes(&found.root), bytes(&found.point)))
        };
        assert_eq!(
            parse(b"36 35 0:32 / /sys/fs/\xff\\040x rw,nosuid shared:9 master:1 - cgroup2 cgroup2 rw"),
            Some((true, b"/".to_vec(), b"/sys/fs/\xff x".to_vec()))
        );
        assert_eq!(
            parse(b"40 35 0:34 /a /cpu rw - cgroup cgroup rw,cpu,cpuacct"),
            Some((false, b"/a".to_vec(), b"/cpu".to_vec()))
        );
        for other in [
            &b"41 35 0:35 / /memory rw - cgroup cgroup rw,memory"[..],
            b"27 1 254:0 / / rw - ext4 /dev/vda rw",
            b"41 35 0:35 / /x rw - cgroup",
            b"41 35 0:35 / /x rw",
            b"\xff",
            b"",
        ] {
            assert_eq!(parse(other), None);
        }
        let seen = Hierarchies(vec![mounted(true, "/", Path::new("/sys/fs/cgroup"))]);
        let Cgroups(places) = seen.of(b"0::/caf\xe9\n");
        let dir = places.first().map(|place| place.dir.as_os_str().as_bytes());
        assert_eq!(dir, Some(&b"/sys/fs/cgroup/caf\xe9"[..]));
    }

    #[test]
    fn the_least_limit_up_to_the_mount_point_counts_and_its_cgroup_is_the_one_held_back() {
        let top = tempfile::tempdir().unwrap();
        let pod = top.path().join("pod");
        let container = pod.join("container");
        fs::create_dir_all(&container).unwrap();
        fs::write(pod.join("cpu.max"), "50000 100000\n").unwrap();
        fs::write(container.join("cpu.max"), "max 100000\n").unwrap();
        let stat = |n: u64| format!("usage_usec 5\nnr_periods {n}\nnr_throttled 2\nthrottled_usec 3\n");
        fs::write(pod.join("cpu.stat"), stat(10)).unwrap();
        fs::write(container.join("cpu.stat"), stat(20)).unwrap();
        let seen = Hierarchies(vec![mounted(true, "/", top.path())]);
        let cgroups = seen.of("0::/pod/container\n");
        assert_eq!(cgroups.cpu_limit(), Some(0.5));
        let throttled = Throttled {
            periods: 10,
            throttled_periods: 2,
            time_ns: 3_000,
        };
        assert_eq!(cgroups.throttled(), Some(throttled));
        fs::write(container.join("cpu.max"), "25000 100000\n").unwrap();
        assert_eq!(cgroups.cpu_limit(), Some(0.25));
        assert_eq!(cgroups.throttled().unwrap().periods, 20);
        fs::remove_file(pod.join("cpu.max")).unwrap();
        fs::remove_file(container.join("cpu.max")).unwrap();
        assert_eq!(cgroups.cpu_limit(), None);
        assert_eq!(cgroups.throttled().unwrap().periods, 20, "its own");
    }

    #[test]
    fn a_frozen_cgroup_is_seen_in_both_kinds() {
        let top = tempfile::tempdir().unwrap();
        let own = top.path().join("own");
        fs::create_dir_all(&own).unwrap();
        let freezer = |unified: bool, text: &str| {
            let found = Freezer::among(&[mounted(unified, "/", top.path())], text.as_bytes());
            let [freezer] = found.try_into().unwrap();
            freezer
        };
        let unified = freezer(true, "0::/own\n");
        assert!(!unified.is_frozen(), "no file");
        fs::write(own.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert!(!unified.is_frozen());
        fs::write(own.join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        assert!(unified.is_frozen());
        let legacy = freezer(false, "3:cpu:/x\n7:freezer:/own\n");
        for (state, frozen) in [("THAWED\n", false), ("FREEZING\n", false), ("FROZEN\n", true)] {
            fs::write(own.join("freezer.state"), state).unwrap();
            assert_eq!(legacy.is_frozen(), frozen, "{state}");
        }
        assert_eq!(Freezer::among(&[], b"0::/own\n"), []);
        for hostile in ["", "0::/../..", "freezer", "7:freezer"] {
            let mounted = [mounted(true, "/", top.path())];
            assert_eq!(Freezer::among(&mounted, hostile.as_bytes()), []);
        }
    }

    #[test]
    fn the_older_kind_is_found_by_its_controller_and_below_what_is_mounted() {
        let top = tempfile::tempdir().unwrap();
        let own = top.path().join("x");
        fs::create_dir_all(&own).unwrap();
        fs::write(
            own.join("cpu.stat"),
            "nr_periods 4\nnr_throttled 1\nthrottled_time 7\n",
        )
        .unwrap();
        let seen = Hierarchies(vec![mounted(false, "/docker/abc", top.path())]);
        let text =
            "5:memory:/docker/abc/x\n4:cpu,cpuacct:/docker/abc/x\n1:name=systemd:/docker/abc/x\n0::/y\n";
        let throttled = seen.of(text).throttled().unwrap();
        assert_eq!((throttled.periods, throttled.time_ns), (4, 7));
        assert_eq!(seen.of("4:cpu,cpuacct:/elsewhere\n"), Cgroups::default());
        assert_eq!(seen.of("4:cpu:/docker/abc/../../x\n"), Cgroups::default());
        for hostile in ["", ":", "::", "4:cpu", "0::", "\n\n", "x:y:z:w"] {
            assert_eq!(seen.of(hostile), Cgroups::default(), "{hostile:?}");
        }
    }
}
