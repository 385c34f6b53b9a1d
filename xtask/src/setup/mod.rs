//! `cargo xtask setup`: installs what the other commands need and is missing.
//!
//! System packages come from apt; tools and Go toolchains go to the cache folder that all clones share. When nothing is
//! missing the network is not used.

mod apt;
mod archive;
mod bpf;
mod cargo_tool;
pub mod deny;
pub mod fuzz;
pub mod kernels;
pub mod packaging;
mod pip;
pub mod prometheus;
pub mod qemu;
pub mod releases;
pub mod services;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::{go, paths, step};

/// Install what is missing on this machine.
#[derive(clap::Args)]
pub struct Args {
    /// Only report what is missing
    #[arg(long)]
    check: bool,
}

/// Something that a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// A Rust with the source of `core`, and the BPF linker.
    Bpf,
    /// Checkers of the source: clippy for the BPF programs, and cargo-deny.
    Lint,
    /// A C compiler, for Go programs with cgo.
    Cgo,
    /// One of [`go::RELEASES`].
    Go(&'static str),
    /// Debian's Go 1.19, which PyPI does not have.
    GoDebian,
    /// bpftrace, which gmpscope is compared with, and the load generator wrk.
    Bench,
    /// The C compiler and C library to link a static binary with.
    Linker,
    /// The C compiler and C library of another architecture.
    Cross(Arch),
    /// QEMU, which boots other kernels on both architectures.
    Qemu,
    /// cargo-fuzz.
    Fuzz,
    /// Tools that make and check the Debian package.
    Packaging,
    /// Prometheus, which scrapes the daemon.
    Prometheus,
    /// Caddy and Syncthing, which are traced.
    Services,
}

impl Component {
    /// Every component.
    fn all() -> Vec<Self> {
        let mut all = vec![Self::Bpf, Self::Linker, Self::Lint, Self::Cgo, Self::GoDebian];
        all.extend(go::RELEASES.map(Self::Go));
        all.push(Self::Bench);
        all.extend(
            Arch::ALL
                .into_iter()
                .filter(|arch| *arch != Arch::native())
                .map(Self::Cross),
        );
        all.push(Self::Qemu);
        all.push(Self::Fuzz);
        all.push(Self::Packaging);
        all.push(Self::Prometheus);
        all.push(Self::Services);
        all
    }

    /// What it is for, shown before it is installed.
    fn purpose(self) -> String {
        match self {
            Self::Bpf => "to compile the BPF programs".into(),
            Self::Lint => "to check the source".into(),
            Self::Cgo => "to build Go programs with cgo".into(),
            Self::Go(version) => format!("Go {version}, to build programs to trace"),
            Self::GoDebian => "Go 1.19, to build programs to trace".into(),
            Self::Bench => "to measure what tracing costs".into(),
            Self::Linker => "to link gmpscope".into(),
            Self::Cross(arch) => format!("to link gmpscope for {}", arch.name()),
            Self::Qemu => "to boot other kernels".into(),
            Self::Fuzz => "to fuzz the readers of programs and recordings".into(),
            Self::Packaging => "to make the Debian package".into(),
            Self::Prometheus => "to scrape the daemon".into(),
            Self::Services => "to trace programs that many people run".into(),
        }
    }

    /// The system packages that are missing for it.
    fn missing_packages(self) -> Result<Vec<String>> {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Ok(match self {
            Self::Bpf => bpf::missing_packages(),
            Self::Lint => {
                let mut packages = bpf::missing_lint_packages();
                if !deny::TOOL.is_there()? {
                    packages.extend(pip::missing_packages());
                }
                packages
            }
            Self::Cgo | Self::Linker => match paths::on_path("gcc") {
                Some(_) => Vec::new(),
                None => names(&["gcc", "libc6-dev"]),
            },
            Self::Go(version) => match releases::is_there(version)? {
                true => Vec::new(),
                false => pip::missing_packages(),
            },
            Self::GoDebian => match Path::new(go::DEBIAN_1_19).join("bin/go").is_file() {
                true => Vec::new(),
                false => names(&["golang-1.19-go"]),
            },
            Self::Bench => ["bpftrace", "wrk"]
                .into_iter()
                .filter(|tool| paths::on_path(tool).is_none())
                .map(str::to_owned)
                .collect(),
            Self::Cross(arch) => match paths::on_path(&arch.cross_gcc()) {
                Some(_) => Vec::new(),
                None => arch.cross_packages(),
            },
            Self::Fuzz => fuzz::missing_packages()?,
            Self::Qemu | Self::Prometheus | Self::Services => Vec::new(),
            Self::Packaging => packaging::missing_packages(),
        })
    }

    /// What is missing for it in the cache, as text.
    fn missing_in_cache(self) -> Result<Option<String>> {
        Ok(match self {
            Self::Bpf => (!bpf::linker_is_there()).then(|| format!("bpf-linker {}", bpf::LINKER_VERSION)),
            Self::Lint => (!deny::TOOL.is_there()?).then(|| format!("cargo-deny {}", deny::TOOL.version)),
            Self::Go(version) => (!releases::is_there(version)?).then(|| format!("Go {version}")),
            Self::Qemu => (!qemu::is_there()?).then(|| "QEMU for both architectures".into()),
            Self::Fuzz => (!fuzz::TOOL.is_there()?).then(|| format!("cargo-fuzz {}", fuzz::TOOL.version)),
            Self::Packaging => {
                (!packaging::is_there()?).then(|| format!("cargo-deb {}", packaging::CARGO_DEB_VERSION))
            }
            Self::Prometheus => {
                (!prometheus::is_there()?).then(|| "Prometheus (Debian's package, unpacked)".into())
            }
            Self::Services => {
                (!services::are_there()?).then(|| "Caddy and Syncthing (Debian's packages, unpacked)".into())
            }
            Self::Linker | Self::Cgo | Self::GoDebian | Self::Bench | Self::Cross(_) => None,
        })
    }

    /// Installs what [`Self::missing_in_cache`] names.
    fn install_into_cache(self) -> Result<()> {
        match self {
            Self::Bpf => bpf::install_linker(),
            Self::Lint => deny::TOOL.install(),
            Self::Go(version) => releases::install(version),
            Self::Qemu => qemu::install(),
            Self::Fuzz => fuzz::TOOL.install(),
            Self::Packaging => packaging::install(),
            Self::Prometheus => prometheus::install(),
            Self::Services => services::install(),
            Self::Linker | Self::Cgo | Self::GoDebian | Self::Bench | Self::Cross(_) => Ok(()),
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    let all = Component::all();
    if args.check {
        return check(&all);
    }
    ensure(&all)?;
    println!("   Go toolchains and tools are in {}", paths::cache()?.display());
    println!("   took {}", step::seconds(began.elapsed()));
    Ok(())
}

fn check(components: &[Component]) -> Result<()> {
    let mut missing = 0;
    for component in components {
        let mut names = component.missing_packages()?;
        names.extend(component.missing_in_cache()?);
        if !names.is_empty() {
            missing += 1;
            println!("missing ({}): {}", component.purpose(), names.join(", "));
        }
    }
    match missing {
        0 => println!("everything is there"),
        _ => bail!("`cargo xtask setup` installs what is missing"),
    }
    Ok(())
}

/// Installs what is missing for these components. If nothing is, prints one line.
pub fn ensure(components: &[Component]) -> Result<()> {
    let mut packages: Vec<String> = Vec::new();
    let mut in_cache = Vec::new();
    for &component in components {
        for package in component.missing_packages()? {
            if !packages.contains(&package) {
                println!("   missing: {package} ({})", component.purpose());
                packages.push(package);
            }
        }
        if let Some(what) = component.missing_in_cache()? {
            println!("   missing: {what} ({})", component.purpose());
            in_cache.push(component);
        }
    }
    if packages.is_empty() && in_cache.is_empty() {
        println!("== set-up: everything is there");
        return Ok(());
    }
    step::title("set-up: installing what is missing");
    apt::install(&packages)?;
    for component in in_cache {
        component.install_into_cache()?;
    }
    Ok(())
}

/// A new temporary folder in the cache, from which files can be moved within the cache.
fn scratch() -> Result<tempfile::TempDir> {
    let cache = paths::cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    tempfile::TempDir::with_prefix_in("unpacking-", &cache)
        .with_context(|| format!("making a folder in {}", cache.display()))
}

/// Moves a folder to its place in the cache. If another process has done so first it is not an error, provided that
/// there is a `part` in that folder.
fn put(from: &Path, to: &Path, part: &str) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    match fs::rename(from, to) {
        Err(_) if to.join(part).exists() => Ok(()),
        moved => moved.with_context(|| format!("moving {} to {}", from.display(), to.display())),
    }
}
