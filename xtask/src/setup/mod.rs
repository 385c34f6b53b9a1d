//! `cargo xtask setup`: what the other commands need, installed where it is missing.
//!
//! System packages come from apt, tools and Go toolchains go to the cache folder that all clones share. When
//! nothing is missing nothing is asked over the network.

mod apt;
mod bpf;
pub mod deny;
mod pip;
pub mod releases;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{go, paths, step};

/// Install what is missing on this machine.
#[derive(clap::Args)]
pub struct Args {
    /// Only say what is missing
    #[arg(long)]
    check: bool,
}

/// Something that a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// A Rust with `core`'s source, and the linker for BPF.
    Bpf,
    /// What checks the source: clippy for the BPF programs, cargo-deny.
    Lint,
    /// A C compiler, for Go programs with cgo.
    Cgo,
    /// One Go release out of [`go::RELEASES`].
    Go(&'static str),
    /// Debian's Go 1.19, which no package index carries.
    GoDebian,
    /// What gmpscope is measured against, and a load generator.
    Bench,
    /// C compiler and C library that a static arm64 binary is linked with.
    Arm64,
}

impl Component {
    /// All of them.
    fn all() -> Vec<Self> {
        let mut all = vec![Self::Bpf, Self::Lint, Self::Cgo, Self::GoDebian];
        all.extend(go::RELEASES.map(Self::Go));
        all.extend([Self::Bench, Self::Arm64]);
        all
    }

    /// What it is for, as a person wants to know before a package is installed.
    fn purpose(self) -> String {
        match self {
            Self::Bpf => "to compile the BPF programs".into(),
            Self::Lint => "to check the source".into(),
            Self::Cgo => "to build Go programs with cgo".into(),
            Self::Go(version) => format!("Go {version}, to build programs to trace"),
            Self::GoDebian => "Go 1.19, to build programs to trace".into(),
            Self::Bench => "to measure what tracing costs".into(),
            Self::Arm64 => "to link for arm64".into(),
        }
    }

    /// System packages without which it cannot be there.
    fn missing_packages(self) -> Result<Vec<String>> {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Ok(match self {
            Self::Bpf => bpf::missing_packages(),
            Self::Lint => {
                let mut packages = bpf::missing_lint_packages();
                if !deny::is_there()? {
                    packages.extend(pip::missing_packages());
                }
                packages
            }
            Self::Cgo => match paths::on_path("gcc") {
                Some(_) => Vec::new(),
                None => names(&["gcc", "libc6-dev"]),
            },
            Self::Go(version) => match releases::is_there(version)? {
                true => Vec::new(),
                false => pip::missing_packages(),
            },
            Self::GoDebian => match std::path::Path::new(go::DEBIAN_1_19).join("bin/go").is_file() {
                true => Vec::new(),
                false => names(&["golang-1.19-go"]),
            },
            Self::Bench => ["bpftrace", "wrk"]
                .into_iter()
                .filter(|tool| paths::on_path(tool).is_none())
                .map(str::to_owned)
                .collect(),
            Self::Arm64 => match paths::on_path("aarch64-linux-gnu-gcc") {
                Some(_) => Vec::new(),
                None => names(&["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"]),
            },
        })
    }

    /// What of it is missing in the cache, in words.
    fn missing_in_cache(self) -> Result<Option<String>> {
        Ok(match self {
            Self::Bpf => (!bpf::linker_is_there()).then(|| format!("bpf-linker {}", bpf::LINKER_VERSION)),
            Self::Lint => (!deny::is_there()?).then(|| format!("cargo-deny {}", deny::VERSION)),
            Self::Go(version) => (!releases::is_there(version)?).then(|| format!("Go {version}")),
            Self::Cgo | Self::GoDebian | Self::Bench | Self::Arm64 => None,
        })
    }

    /// Installs what [`Self::missing_in_cache`] names.
    fn install_into_cache(self) -> Result<()> {
        match self {
            Self::Bpf => bpf::install_linker(),
            Self::Lint => deny::install(),
            Self::Go(version) => releases::install(version),
            Self::Cgo | Self::GoDebian | Self::Bench | Self::Arm64 => Ok(()),
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

/// Installs what these components miss; says nothing but one line if that is nothing.
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
