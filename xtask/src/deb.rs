//! `cargo xtask deb`: builds the Debian package and has lintian check it.

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
    /// Build it for this architecture
    #[arg(long, default_value = Arch::native().name())]
    arch: Arch,
}

/// The heading under which a manual page lists the commands that have pages of their own.
const LIST_HEADING: &str = ".SH COMMANDS";
/// Shells with completions, and the file in which each looks for them.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "gmpscope"),
    ("zsh", "_gmpscope"),
    ("fish", "gmpscope.fish"),
];

/// The upstream version of the package, which is the workspace's. The Debian revision, `-1`, follows it.
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

/// The path of the package for an architecture, named as Debian names packages. It need not exist yet.
pub fn path(arch: Arch) -> PathBuf {
    let name = format!("gmpscope_{VERSION}-1_{}.deb", arch.goarch());
    paths::target().join("debian").join(name)
}

/// Builds the package and returns its path.
pub fn make(arch: Arch) -> Result<PathBuf> {
    build::release()?;
    if arch != Arch::native() {
        build::release_for(arch)?;
    }
    // The metadata in Cargo.toml names this folder, whatever CARGO_TARGET_DIR is.
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
    step::run_quietly("the Debian package", &mut cargo_deb)?;
    Ok(package)
}

/// Runs lintian on a package. Whatever it finds is an error, unless packaging/debian/lintian-overrides explains it.
pub fn check(package: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian
        .args(["--fail-on", "error,warning", "--allow-root", "--info"])
        .arg(package);
    step::run_quietly("lintian", &mut lintian)
}

/// Writes manual pages and completions, as this machine's binary prints them: another architecture's cannot run here.
fn generate(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    write_manual(&man, &mut Vec::new())?;
    for (shell, file) in SHELLS {
        fs::write(completions.join(file), output_of(&["completions", shell])?)?;
    }
    Ok(())
}

/// Writes the manual page of a command, and those of its subcommands.
fn write_manual(folder: &Path, command: &mut Vec<String>) -> Result<()> {
    let mut arguments = vec!["man"];
    arguments.extend(command.iter().map(String::as_str));
    let page = output_of(&arguments)?;
    let name = ["gmpscope"].into_iter().chain(command.iter().map(String::as_str));
    let name = name.collect::<Vec<_>>().join("-");
    fs::write(folder.join(format!("{name}.1")), &page)?;
    for subcommand in subcommands(&page) {
        command.push(subcommand);
        write_manual(folder, command)?;
        command.pop();
    }
    Ok(())
}

fn output_of(arguments: &[&str]) -> Result<String> {
    step::output(Command::new(paths::release_binary()).args(arguments))
}

/// The names of the subcommands that a manual page lists.
fn subcommands(page: &str) -> Vec<String> {
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
    fn subcommands_are_read_from_the_manual() {
        let page = ".SH NAME\nx\n.SH COMMANDS\n.TP\nattach\nTrace\n.TP\nrun\nRun\n.SH FILES\n.TP\nno\n";
        assert_eq!(subcommands(page), ["attach", "run"]);
        assert!(subcommands(".SH NAME\n").is_empty());
    }
}
