//! `cargo xtask deb`: the Debian package, and whether Debian's own checker finds something wrong with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::setup::{self, Component, packaging};
use crate::{build, paths, step};

/// Build the Debian package: the static binary, its unit, default configuration, manual pages and completions.
#[derive(clap::Args)]
pub struct Args {
    /// For this architecture, whatever this machine is
    #[arg(long, default_value = Arch::native().name())]
    arch: Arch,
}

/// Under it a manual page lists the commands that have a page of their own.
const LIST_HEADING: &str = ".SH COMMANDS";
/// Shells with completions, and the file name by which each looks for them.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "gmpscope"),
    ("zsh", "_gmpscope"),
    ("fish", "gmpscope.fish"),
];

/// The workspace's, which is the package's; `-1` is the first packaging of it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let mut components = build::components(args.arch);
    components.push(Component::Packaging);
    setup::ensure(&components)?;
    let package = make(args.arch)?;
    check(&package)?;
    println!("\n{}", package.display());
    Ok(())
}

/// Where the package of an architecture is once it is made, named as Debian names packages.
pub fn path(arch: Arch) -> PathBuf {
    let name = format!("gmpscope_{VERSION}-1_{}.deb", arch.goarch());
    paths::target().join("debian").join(name)
}

/// Builds the package and says where it is.
pub fn make(arch: Arch) -> Result<PathBuf> {
    build::release()?;
    if arch != Arch::native() {
        build::release_for(arch)?;
    }
    // Cargo.toml names this place, whatever CARGO_TARGET_DIR is.
    generate(&paths::root().join("target/package"))?;
    let package = path(arch);
    let mut cargo_deb = packaging::cargo_deb()?;
    cargo_deb
        .args([
            "--package",
            "tracer-user",
            "--no-build",
            "--no-strip",
            "--target",
            &arch.triple(),
        ])
        .arg("--output")
        .arg(&package);
    step::quiet("the Debian package", &mut cargo_deb)?;
    Ok(package)
}

/// Lets lintian look at a package; what it finds and packaging/debian/lintian-overrides does not explain is an error.
pub fn check(package: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian
        .args(["--fail-on", "error,warning", "--allow-root", "--info"])
        .arg(package);
    step::quiet("lintian", &mut lintian)
}

/// Manual pages and completions, as the binary itself prints them. It is this machine's: another one's cannot run.
fn generate(place: &Path) -> Result<()> {
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("removing {}", place.display()))?;
    }
    let (man, completions) = (place.join("man"), place.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    manual(&man, &mut Vec::new())?;
    for (shell, file) in SHELLS {
        fs::write(completions.join(file), printed(&["completions", shell])?)?;
    }
    Ok(())
}

/// Writes the page of a command, and those of the commands that it lists.
fn manual(folder: &Path, command: &mut Vec<String>) -> Result<()> {
    let mut arguments = vec!["man"];
    arguments.extend(command.iter().map(String::as_str));
    let page = printed(&arguments)?;
    let name = ["gmpscope"].into_iter().chain(command.iter().map(String::as_str));
    let name = name.collect::<Vec<_>>().join("-");
    fs::write(folder.join(format!("{name}.1")), &page)?;
    for below in commands(&page) {
        command.push(below);
        manual(folder, command)?;
        command.pop();
    }
    Ok(())
}

fn printed(arguments: &[&str]) -> Result<String> {
    step::output(Command::new(paths::release_binary()).args(arguments))
}

/// Names of the commands that a manual page lists; none if it lists none.
fn commands(page: &str) -> Vec<String> {
    let list = page
        .split_once(LIST_HEADING)
        .and_then(|(_, rest)| rest.split("\n.SH ").next());
    let mut names = Vec::new();
    let mut lines = list.unwrap_or_default().lines();
    while let Some(line) = lines.next() {
        if line == ".TP" {
            names.extend(lines.next().map(str::to_owned));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_off_the_manual() {
        let page = ".SH NAME\nx\n.SH COMMANDS\n.TP\nattach\nTrace\n.TP\nrun\nRun\n.SH FILES\n.TP\nno\n";
        assert_eq!(commands(page), ["attach", "run"]);
        assert!(commands(".SH NAME\n").is_empty());
    }
}
