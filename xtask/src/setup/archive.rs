//! Fetches packages of other suites and architectures than this machine's from Debian's archive, by an apt with lists
//! and state of its own. They are unpacked and never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::pip::entries;
use super::{apt, scratch};
use crate::arch::Arch;
use crate::{paths, step};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite of the archive, for one architecture.
pub struct Archive {
    state: PathBuf,
    suite: String,
    arch: Arch,
}

impl Archive {
    /// Opens a suite, whose package lists are fetched: some 10 MB.
    pub fn open(suite: &str, arch: Arch) -> Result<Self> {
        for needed in ["apt-get", "apt-cache", "dpkg-deb"] {
            if paths::on_path(needed).is_none() {
                bail!("{needed} is missing: Debian's packages can be fetched on Debian only");
            }
        }
        let state = paths::cache()?.join("apt").join(suite).join(arch.goarch());
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = state.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        fs::write(state.join("status"), "")?;
        let mirror = mirror(suite.ends_with("-security"))?;
        let line = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::write(state.join("sources.list"), line)?;
        let archive = Self {
            state,
            suite: suite.to_owned(),
            arch,
        };
        step::run_quietly(
            &format!("lists of Debian {suite} for {}", arch.goarch()),
            archive.apt("apt-get").args(["-q", "update"]),
        )?;
        Ok(archive)
    }

    /// The names of the packages that a package depends on.
    pub fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let printed =
            step::output(
                self.apt("apt-cache")
                    .args(["depends", "--important", "--no-recommends", package]),
            )?;
        Ok(printed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .map(|name| name.split(':').next().unwrap_or(name).to_owned())
            .collect())
    }

    /// Fetches a package and unpacks it into a folder.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let mut download = self.apt("apt-get");
        download.args(["-q", "download", package]);
        fetch_and_unpack(&mut download, &format!("{package} of {}", self.suite), into)
    }

    /// A command of apt that does not see this machine's packages.
    fn apt(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        let mut option = |name: &str, value: &str| {
            apt.arg("-o").arg(format!("{name}={value}"));
        };
        for (name, file) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::State", ""),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            option(name, &self.state.join(file).display().to_string());
        }
        option("Dir::Etc::sourceparts", "-");
        option("Dir::Etc::preferencesparts", "-");
        option("APT::Architecture", self.arch.goarch());
        option("APT::Architectures", self.arch.goarch());
        option("Acquire::Languages", "none");
        option("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false");
        // The user _apt may not enter the cache folder.
        option("APT::Sandbox::User", "root");
        apt
    }
}

/// Runs `apt-get download …` and unpacks the packages that it fetched.
pub fn fetch_and_unpack(download: &mut Command, what: &str, into: &Path) -> Result<()> {
    let scratch = scratch()?;
    step::run_quietly(&format!("fetching {what}"), download.current_dir(scratch.path()))?;
    for package in entries(scratch.path())? {
        step::output(Command::new("dpkg-deb").arg("-x").arg(&package).arg(into))
            .with_context(|| format!("unpacking {}", package.display()))?;
    }
    Ok(())
}

/// The mirror from which this machine gets Debian's packages. If there is no package list yet, they are fetched first.
fn mirror(security: bool) -> Result<String> {
    if let Ok(mirror) = listed_mirror(security) {
        return Ok(mirror);
    }
    apt::update()?;
    listed_mirror(security)
}

fn listed_mirror(security: bool) -> Result<String> {
    let printed = step::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(CODENAME) $(REPO_URI)",
    ]))?;
    let repository = printed.lines().find_map(|line| {
        let (origin, rest) = line.split_once(' ')?;
        let (codename, uri) = rest.split_once(' ')?;
        (origin == "Debian" && codename.ends_with("-security") == security).then(|| uri.to_owned())
    });
    repository.context(if security {
        "apt has no list of Debian's security archive: add it to its sources, then `apt-get update`"
    } else {
        "apt has no list of Debian's archive: add it to its sources, then `apt-get update`"
    })
}
