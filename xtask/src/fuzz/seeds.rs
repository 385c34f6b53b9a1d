//! Makes the initial inputs of fuzzing: small Go programs of several versions and both architectures, DWARF of some of
//! them, and recordings. None of it is in the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::arch::Arch;
use crate::process::Running;
use crate::{go, paths, step};

/// The oldest release on PyPI, those between which the tables of the runtime changed, and the newest.
pub const RELEASES: [&str; 4] = ["1.21.13", "1.24.11", "1.26.6", go::NEWEST];

/// A program with one goroutine, so that it is mostly the runtime.
const SOURCE: &str = "\
package main

func main() {
\tdone := make(chan int)
\tgo func() { done <- 1 }()
\t<-done
}
";

/// DWARF sections that contain no layouts.
const NO_LAYOUTS: [&str; 6] = [
    ".debug_line",
    ".debug_frame",
    ".debug_loc",
    ".debug_loclists",
    ".debug_ranges",
    ".debug_rnglists",
];

/// The folder of the seeds and of the inputs that were found.
pub fn folder() -> PathBuf {
    paths::target().join("fuzz")
}

/// The folder of the programs that patches are applied to.
pub fn programs() -> PathBuf {
    folder().join("programs")
}

/// The folder of the seeds of a target.
pub fn of(target: &str) -> PathBuf {
    folder().join("seeds").join(target)
}

/// Makes all seeds that do not exist yet.
pub fn make(gmpscope: &Path) -> Result<()> {
    let mut programs = 0;
    for release in RELEASES {
        for arch in Arch::ALL {
            for mode in ["exe", "pie"] {
                // A PIE of the other architecture would have nothing that these do not have.
                if mode == "exe" || arch == Arch::native() {
                    program(release, arch, mode)?;
                    programs += 1;
                }
            }
        }
        dwarf(release)?;
    }
    patches(programs)?;
    recordings(gmpscope)
}

/// Builds a stripped program.
fn program(release: &str, arch: Arch, mode: &str) -> Result<()> {
    let name = format!("{release}-{}-{mode}", arch.goarch());
    let options = ["-ldflags=-s -w", &format!("-buildmode={mode}")];
    compile(release, arch, &options, &programs().join(name))
}

/// Extracts the DWARF of a program that describes layouts. It is uncompressed, since a mutation of compressed data
/// would only break the decompression.
fn dwarf(release: &str) -> Result<()> {
    let to = of("dwarf").join(release);
    if to.is_file() {
        return Ok(());
    }
    let whole = folder().join("with-dwarf");
    compile(
        release,
        Arch::native(),
        &["-ldflags=-compressdwarf=false"],
        &whole,
    )?;
    make_folder(&of("dwarf"))?;
    let mut objcopy = Command::new("objcopy");
    objcopy.arg("--only-keep-debug");
    for section in NO_LAYOUTS {
        objcopy.arg("--remove-section").arg(section);
    }
    let made = step::output(objcopy.arg(&whole).arg(&to)).map(drop);
    fs::remove_file(&whole).with_context(|| format!("removing {}", whole.display()))?;
    made
}

fn compile(release: &str, arch: Arch, options: &[&str], to: &Path) -> Result<()> {
    if to.is_file() {
        return Ok(());
    }
    let source = folder().join("source");
    make_folder(&source)?;
    make_folder(&programs())?;
    fs::write(source.join("main.go"), SOURCE)?;
    fs::write(source.join("go.mod"), "module seed\n\ngo 1.21\n")?;
    let partial = folder().join("partial");
    let mut go = go::command(&go::root(release)?);
    go.current_dir(&source)
        .env("GOARCH", arch.goarch())
        .args(["build", "-trimpath"])
        .args(options)
        .arg("-o")
        .arg(&partial)
        .arg(".");
    step::run_quietly(
        &format!("building a seed with Go {release} for {}", arch.goarch()),
        &mut go,
    )?;
    fs::rename(&partial, to).with_context(|| format!("moving {} to its place", to.display()))
}

/// Writes lists of one patch, one for each region of each program: see fuzz/fuzz_targets/program.rs.
fn patches(programs: u8) -> Result<()> {
    let folder = of("program");
    make_folder(&folder)?;
    for program in 0..programs {
        for region in 0..30u8 {
            let mut patch = vec![program, region, 0, 0, 0, 0, 8];
            patch.extend([0xff; 8]);
            fs::write(folder.join(format!("{program}-{region}")), patch)?;
        }
    }
    Ok(())
}

/// Makes recordings of every mode, each after the byte of options that fuzz/fuzz_targets/recording.rs reads.
fn recordings(gmpscope: &Path) -> Result<()> {
    let folder = of("recording");
    if folder.join("full").is_file() {
        return Ok(());
    }
    make_folder(&folder)?;
    let program = go::build(go::NEWEST, "mixed", go::Symbols::Stripped)?;
    record(
        gmpscope,
        &folder.join("run"),
        &["run", "--repeat", "2"],
        &[
            "--".as_ref(),
            program.as_os_str(),
            "-for".as_ref(),
            "50ms".as_ref(),
        ],
    )?;
    let mut running = Running(
        Command::new(&program)
            .args(["-for", "5m"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?,
    );
    std::thread::sleep(Duration::from_millis(200));
    let pid = running.0.id().to_string();
    // The one of full is as long as fits into an input.
    for (mode, length, interval) in [
        ("passive", "600ms", "200ms"),
        ("sampled", "600ms", "200ms"),
        ("exact", "600ms", "200ms"),
        ("full", "60ms", "20ms"),
    ] {
        let mut words = vec!["attach", "-p", &pid, "-m", mode, "-d", length, "-i", interval];
        if mode != "passive" {
            words.extend(["--slower", "1ms"]);
        }
        record(gmpscope, &folder.join(mode), &words, &[])?;
    }
    ensure!(running.0.try_wait()?.is_none(), "the recorded program has exited");
    Ok(())
}

/// Runs gmpscope with `--record` and writes the recording as a seed.
fn record(gmpscope: &Path, to: &Path, words: &[&str], rest: &[&std::ffi::OsStr]) -> Result<()> {
    let recording = folder().join("recording.gmps");
    let mut command = Command::new(gmpscope);
    command
        .args(words)
        .args(["-o", "/dev/null", "--record"])
        .arg(&recording)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // An incomplete capture (5) is recorded as well.
    let status = command
        .status()
        .with_context(|| format!("starting {}", gmpscope.display()))?;
    let recorded = fs::read(&recording).with_context(|| {
        format!(
            "{status}, and nothing was recorded, by {}",
            step::command_line(&command)
        )
    })?;
    let mut seed = vec![1];
    seed.extend(recorded);
    fs::write(to, seed).with_context(|| format!("writing {}", to.display()))?;
    fs::remove_file(&recording).with_context(|| format!("removing {}", recording.display()))
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))
}
