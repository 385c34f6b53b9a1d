//! Go toolchains.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::environment::HINT;

/// One Go distribution.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Toolchain {
    /// Minor and patch number of Go 1: (27, 3).
    pub number: (u32, u32),
    /// Its `GOROOT`.
    pub root: PathBuf,
}

impl Toolchain {
    /// Reads the distribution at a `GOROOT`.
    pub fn at(root: &Path) -> Result<Self> {
        let file = root.join("VERSION");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("{} is not a GOROOT: {HINT}", root.display()))?;
        let version = text.split_whitespace().next().and_then(|v| v.strip_prefix("go"));
        let of_version = Self::elsewhere(version.unwrap_or_default())
            .with_context(|| format!("{} does not begin with a version", file.display()))?;
        Ok(Self {
            root: root.to_owned(),
            ..of_version
        })
    }

    /// A distribution of this version (`1.27.3`) on another machine, whose programs are here.
    pub fn elsewhere(version: &str) -> Result<Self> {
        let number = version.strip_prefix("1.").and_then(|v| {
            let (minor, patch) = v.split_once('.').unwrap_or((v, "0"));
            Some((minor.parse().ok()?, patch.parse().ok()?))
        });
        Ok(Self {
            number: number.with_context(|| format!("{version:?} is not a version of Go"))?,
            root: PathBuf::new(),
        })
    }

    /// The version as `1.27.3`.
    pub fn version(&self) -> String {
        format!("1.{}.{}", self.number.0, self.number.1)
    }

    /// The minor version: 27.
    pub fn minor(&self) -> u32 {
        self.number.0
    }

    /// The `go` command, with an environment in which it neither downloads nor switches to another toolchain.
    pub fn go(&self) -> Command {
        let mut c = Command::new(self.root.join("bin/go"));
        c.env("GOROOT", &self.root)
            .env("GOTOOLCHAIN", "local")
            .env("GOPROXY", "off")
            .env("GOFLAGS", "-mod=mod")
            .env("GOWORK", "off")
            // The compiler ends before most of its garbage is worth a collection.
            .env("GOGC", "400")
            .env_remove("GOEXPERIMENT")
            .env_remove("GODEBUG");
        c
    }
}

/// All toolchains of `GMPSCOPE_GO_ROOTS`, oldest first.
pub fn all() -> Result<Vec<Toolchain>> {
    let roots = std::env::var_os("GMPSCOPE_GO_ROOTS")
        .with_context(|| format!("GMPSCOPE_GO_ROOTS does not name Go toolchains: {HINT}"))?;
    let mut all = std::env::split_paths(&roots)
        .filter(|p| !p.as_os_str().is_empty())
        .map(|p| Toolchain::at(&p))
        .collect::<Result<Vec<_>>>()?;
    all.sort();
    if all.is_empty() {
        bail!("GMPSCOPE_GO_ROOTS is empty: {HINT}");
    }
    Ok(all)
}

/// The newest toolchain.
pub fn newest() -> Result<Toolchain> {
    all()?.pop().context("no toolchain")
}

/// The toolchains that a test uses: all of them in the full run, else a few.
pub fn selection() -> Result<Vec<Toolchain>> {
    if crate::environment::full() { all() } else { few() }
}

/// Picks the oldest, the last whose histogram has zeros that were not waits (Go 1.25), and the newest.
pub fn few() -> Result<Vec<Toolchain>> {
    let all = all()?;
    let mut few: Vec<Toolchain> = Vec::new();
    few.extend(all.first().cloned());
    few.extend(all.iter().rev().find(|t| t.minor() <= 25).cloned());
    few.extend(all.last().cloned());
    few.dedup();
    Ok(few)
}

/// Runs a command to its end; if it fails, the error has its output.
pub(crate) fn run(command: &mut Command) -> Result<Vec<u8>> {
    let out = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !out.status.success() {
        bail!(
            "{command:?}: {}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
    }
    Ok(out.stdout)
}
