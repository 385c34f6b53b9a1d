//! `cargo xtask profiles`: the profiles that the tests build Go programs with, for profile-guided optimisation.
//!
//! They are not measured, since what a measured profile makes the compiler inline depends on the machine and on chance.
//! The compiler reads calls from a profile (function, line within it, callee, weight), and `tests/profiles/shapes.json`
//! says which calls are hot. Their lines are looked up in the sources of each toolchain, since they move from one
//! release to the next; the result is written as a pprof, the only format that every Go from 1.21 on reads. It holds
//! nothing but names of functions of package runtime, lines and weights.
//!
//! Format: <https://github.com/google/pprof/blob/main/proto/profile.proto>. How it is read:
//! `cmd/internal/pgo/pprof.go` (`createNamedEdgeMap`), before Go 1.23 `cmd/compile/internal/pgo/irgraph.go`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::setup::{self, Component};
use crate::{go, paths};

/// The folder of the profiles in the repository.
const FOLDER: &str = "tests/profiles";
/// The weight of every call: all of them are hot.
const WEIGHT: u64 = 100;
/// The line on which each function begins in the profile; only the distance from it counts.
const FIRST_LINE: u64 = 1;

/// Write the profiles that the tests build Go programs with.
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail if the profiles differ from the toolchains' sources
    #[arg(long)]
    check: bool,
}

/// The part of a shape that is read here.
#[derive(Deserialize)]
struct Shape {
    /// The hot callees of each function.
    hot: BTreeMap<String, Vec<String>>,
}

/// A hot call.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    caller: String,
    callee: String,
    /// Line, relative to the first line of the caller.
    line: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&go::RELEASES.map(Component::Go))?;
    let folder = paths::root().join(FOLDER);
    let shapes = folder.join("shapes.json");
    let text = fs::read(&shapes).with_context(|| format!("reading {}", shapes.display()))?;
    let shapes: BTreeMap<String, Shape> =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", shapes.display()))?;
    for (name, shape) in &shapes {
        for release in go::RELEASES {
            let source = Source::read(&go::root(release)?.join("src/runtime"))?;
            let calls = calls(shape, &source).with_context(|| format!("shape {name} in Go {release}"))?;
            let minor = release
                .split('.')
                .nth(1)
                .context("a release has a minor version")?;
            let file = folder.join(name).join(format!("go1.{minor}.pprof"));
            write(&file, &pprof(&calls), args.check)?;
        }
    }
    Ok(())
}

fn write(file: &Path, profile: &[u8], check: bool) -> Result<()> {
    if fs::read(file).is_ok_and(|there| there == profile) {
        return Ok(());
    }
    ensure!(
        !check,
        "{} differs from what the sources of Go say: run `cargo xtask profiles`",
        file.display()
    );
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    fs::write(file, profile).with_context(|| format!("writing {}", file.display()))?;
    println!("written: {}", file.display());
    Ok(())
}

/// The calls of a shape in one release. Functions that this release does not have are left out.
fn calls(shape: &Shape, source: &Source) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    for (caller, callees) in &shape.hot {
        let Some(body) = source.function(caller) else {
            continue;
        };
        for callee in callees {
            let lines = body.iter().zip(0..).filter(|(line, _)| has_call(line, callee));
            calls.extend(lines.map(|(_, line)| Call {
                caller: caller.clone(),
                callee: callee.clone(),
                line,
            }));
        }
    }
    if calls.is_empty() {
        bail!("the sources have none of its calls");
    }
    Ok(calls)
}

/// The lines of the files of package runtime, without its tests.
struct Source(Vec<Vec<String>>);

impl Source {
    fn read(folder: &Path) -> Result<Self> {
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            files.push(entry?.path());
        }
        files.retain(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".go") && !name.ends_with("_test.go")
        });
        files.sort();
        let read = |file: &PathBuf| {
            let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        files.iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// The lines of a function (`runtime.ready`), including the one that declares it.
    fn function(&self, name: &str) -> Option<&[String]> {
        let head = format!("func {}(", name.strip_prefix("runtime.")?);
        self.0.iter().find_map(|file| {
            let first = file.iter().position(|line| line.starts_with(&head))?;
            let length = file.get(first..)?.iter().position(|line| line == "}")?;
            file.get(first..first + length)
        })
    }
}

/// Whether a line calls a function (`runtime.ready`) or a method (`runtime.(*timeHistogram).record`).
fn has_call(line: &str, callee: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let callee = callee.strip_prefix("runtime.").unwrap_or(callee);
    let (before, name) = match callee.rsplit_once('.') {
        Some((_, method)) => (Some('.'), method),
        None => (None, callee),
    };
    code.match_indices(&format!("{name}(")).any(|(at, _)| {
        let previous = code.get(..at).and_then(|text| text.chars().last());
        match before {
            Some(dot) => previous == Some(dot),
            None => {
                previous.is_none_or(|c| !c.is_alphanumeric() && !"_.".contains(c))
                    && !code.starts_with("func ")
            }
        }
    })
}

/// Encodes the calls as a pprof, uncompressed: it is small, and its strings stay readable.
fn pprof(calls: &[Call]) -> Vec<u8> {
    let mut strings = Numbered::default();
    let (mut functions, mut locations) = (Numbered::default(), Numbered::default());
    // The first string must be empty.
    strings.number(String::new());
    let mut samples = Vec::new();
    for call in calls {
        // The callee comes first; its line does not matter.
        let mut stack = Vec::new();
        for (function, line) in [(&call.callee, 0), (&call.caller, call.line)] {
            let function = functions.number(function.clone());
            varint(&mut stack, locations.number((function, line)) + 1);
        }
        let mut sample = Vec::new();
        bytes(&mut sample, 1, &stack);
        let mut weight = Vec::new();
        varint(&mut weight, WEIGHT);
        bytes(&mut sample, 2, &weight);
        samples.push(sample);
    }
    let mut profile = Vec::new();
    let mut kind = Vec::new();
    number(&mut kind, 1, strings.number("samples".to_owned()));
    number(&mut kind, 2, strings.number("count".to_owned()));
    bytes(&mut profile, 1, &kind);
    samples.iter().for_each(|sample| bytes(&mut profile, 2, sample));
    for ((function, line), id) in locations.0.iter().zip(1..) {
        let mut place = Vec::new();
        number(&mut place, 1, function + 1);
        number(&mut place, 2, FIRST_LINE + line);
        let mut location = Vec::new();
        number(&mut location, 1, id);
        bytes(&mut location, 4, &place);
        bytes(&mut profile, 4, &location);
    }
    for (name, id) in functions.0.iter().zip(1..) {
        let name = strings.number(name.clone());
        let mut function = Vec::new();
        for (field, value) in [(1, id), (2, name), (3, name), (5, FIRST_LINE)] {
            number(&mut function, field, value);
        }
        bytes(&mut profile, 5, &function);
    }
    for string in &strings.0 {
        bytes(&mut profile, 6, string.as_bytes());
    }
    profile
}

/// Distinct values, numbered from 0 in the order in which they are added.
struct Numbered<T>(Vec<T>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Numbered<T> {
    /// The number of a value, which is added if it is new.
    fn number(&mut self, value: T) -> u64 {
        let at = self
            .0
            .iter()
            .position(|known| *known == value)
            .unwrap_or_else(|| {
                self.0.push(value);
                self.0.len() - 1
            });
        at as u64
    }
}

/// Appends a protobuf field that is a number.
fn number(into: &mut Vec<u8>, field: u64, value: u64) {
    varint(into, field << 3);
    varint(into, value);
}

/// Appends a protobuf field that is a string, a message or packed numbers.
fn bytes(into: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(into, field << 3 | 2);
    varint(into, value.len() as u64);
    into.extend(value);
}

/// Appends a protobuf varint.
fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        into.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_and_lookalikes_are_not() {
        let casgstatus = "runtime.casgstatus";
        assert!(has_call("\tcasgstatus(gp, _Grunnable, _Grunning)", casgstatus));
        assert!(has_call("\tif x { casgstatus(gp, a, b) }", casgstatus));
        for line in [
            "\t// casgstatus(gp, a, b)",
            "\tprecasgstatus(gp, a, b)",
            "\tx.casgstatus(gp, a, b)",
            "func casgstatus(gp *g, oldval, newval uint32) {",
            "\tcasgstatus2(gp, a, b)",
        ] {
            assert!(!has_call(line, casgstatus), "{line}");
        }
        let record = "runtime.(*timeHistogram).record";
        assert!(has_call("\tsched.timeToRun.record(gp.runnableTime)", record));
        assert!(!has_call("\trecord(gp.runnableTime)", record));
    }

    #[test]
    fn a_profile_has_the_format_of_pprof() {
        let call = Call {
            caller: "runtime.a".to_owned(),
            callee: "runtime.b".to_owned(),
            line: 300,
        };
        let expected: &[&[u8]] = &[
            &[0x0a, 4, 8, 1, 16, 2],
            &[0x12, 7, 0x0a, 2, 1, 2, 0x12, 1, 100],
            &[0x22, 8, 8, 1, 0x22, 4, 8, 1, 16, 1],
            &[0x22, 9, 8, 2, 0x22, 5, 8, 2, 16, 0xad, 2],
            &[0x2a, 8, 8, 1, 16, 3, 24, 3, 40, 1],
            &[0x2a, 8, 8, 2, 16, 4, 24, 4, 40, 1],
            &[0x32, 0, 0x32, 7],
            b"samples",
            &[0x32, 5],
            b"count",
            &[0x32, 9],
            b"runtime.b",
            &[0x32, 9],
            b"runtime.a",
        ];
        assert_eq!(pprof(&[call]), expected.concat());
    }
}
