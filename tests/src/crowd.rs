//! Many processes of one Go program: some that stay, others that come and go.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use tempfile::TempDir;

use crate::daemon::{Daemon, Held};
use crate::toolchain;
use crate::variant::Variant;

/// How long a passing process lives, as the value of its option.
const LIFE: &str = "2500ms";
/// A process that has lived this long must have been reported.
pub const REPORTED: Duration = Duration::from_secs(2);
/// How often the reported processes are read.
const POLL: Duration = Duration::from_millis(500);

/// Many processes of one program, which are killed on drop.
#[derive(Debug)]
pub struct Crowd {
    exe: PathBuf,
    /// Arguments of every process.
    arguments: Vec<String>,
    standing: Processes,
    _dir: TempDir,
}

/// Counts of the processes of [`Crowd::pass`].
#[derive(Clone, Debug, Default)]
pub struct ShortLived {
    /// How many were started.
    pub started: usize,
    /// Those that were never reported.
    pub missed: BTreeSet<u32>,
}

#[derive(Debug, Default)]
struct Processes(Vec<Child>);

impl Crowd {
    /// Starts `standing` processes of a workload of the newest Go, under a name that no other process has.
    pub fn of(workload: &str, standing: usize, arguments: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let exe = dir.path().join(workload);
        std::fs::copy(Variant::Stripped.build(&toolchain::newest()?, workload)?, &exe)?;
        let mut crowd = Self {
            exe,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            standing: Processes::default(),
            _dir: dir,
        };
        for _ in 0..standing {
            crowd.standing.0.push(crowd.start(&[])?);
        }
        Ok(crowd)
    }

    /// The path of the program.
    pub fn exe(&self) -> &Path {
        &self.exe
    }

    /// Returns the configuration rule that watches the program at this tier.
    pub fn rule(&self, tier: &str) -> String {
        format!(
            "[[target]]\nexe = \"{}\"\ntier = \"{tier}\"\n",
            self.exe.display()
        )
    }

    /// PIDs of the processes that the daemon reports, at whatever tier.
    pub fn reported(&self, daemon: &Daemon) -> Result<BTreeSet<u32>> {
        let exe = self.exe.display().to_string();
        let labels = [("exe", exe.as_str())];
        let page = daemon.metrics()?;
        let found = page
            .find("gmpscope_tier", &labels)
            .filter(|sample| sample.value == 1.0);
        Ok(found
            .filter_map(|sample| sample.labels.get("pid")?.parse().ok())
            .collect())
    }

    /// Waits until the daemon reports the standing processes and no others, then two seconds more.
    pub fn wait_until_alone(&self, daemon: &Daemon) -> Result<Held> {
        let standing = self.standing.pids();
        daemon.wait_for("those that stand, and no other", |_| {
            (self.reported(daemon).ok()? == standing).then_some(())
        })?;
        std::thread::sleep(Duration::from_secs(2));
        daemon.holds()
    }

    /// Starts `per_second` processes a second for `time`, each of which ends after 2.5 s, and waits for their end.
    pub fn pass(&self, daemon: &Daemon, per_second: u32, time: Duration) -> Result<ShortLived> {
        let mut passing = Processes::default();
        let (mut started, mut reported) = (BTreeSet::new(), BTreeSet::new());
        let began = Instant::now();
        let (mut polled, mut next) = (began, 0);
        while began.elapsed() < time || !passing.0.is_empty() {
            if began.elapsed() < time && began.elapsed() >= Duration::from_secs(1) * next / per_second {
                let child = self.start(&["-for", LIFE])?;
                started.insert(child.id());
                passing.0.push(child);
                next += 1;
            }
            passing.reap();
            if polled.elapsed() >= POLL {
                reported.extend(self.reported(daemon)?);
                polled = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // A process that ended between two scrapes is in the log.
        let log = daemon.log();
        let logged = log.lines().filter_map(|line| {
            let (_, rest) = line.split_once("target ")?;
            rest.split(' ').next()?.parse::<u32>().ok()
        });
        reported.extend(logged);
        Ok(ShortLived {
            started: started.len(),
            missed: started
                .into_iter()
                .filter(|pid| !reported.contains(pid))
                .collect(),
        })
    }

    fn start(&self, more: &[&str]) -> Result<Child> {
        Ok(Command::new(&self.exe)
            .args(&self.arguments)
            .args(more)
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?)
    }

    /// Counts the standing processes that have ended.
    pub fn count_ended(&mut self) -> usize {
        let before = self.standing.0.len();
        self.standing.reap();
        before - self.standing.0.len()
    }
}

impl Processes {
    fn pids(&self) -> BTreeSet<u32> {
        self.0.iter().map(Child::id).collect()
    }

    fn reap(&mut self) {
        self.0
            .retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            _ = child.kill();
        }
        for child in &mut self.0 {
            _ = child.wait();
        }
    }
}
