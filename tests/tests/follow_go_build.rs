//! `run --follow` of the `go` command, compared with a `-toolexec` script that records the tools that it starts.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::start::{Ran, Traced};
use gmpscope_tests::{machine, toolchain};

/// The number of starts of each binary, by its file name.
fn by_binary(ran: &Ran) -> Result<BTreeMap<String, u64>> {
    let binaries = ran.init()?.binaries.iter();
    Ok(binaries
        .map(|binary| {
            let name = binary.exe.raw().rsplit('/').next().unwrap_or_default();
            (name.to_owned(), binary.runs)
        })
        .collect())
}

/// A module of a few packages, and a script that records each tool that `go build` starts.
struct Module {
    dir: tempfile::TempDir,
    go: PathBuf,
}

impl Module {
    fn new() -> Result<Self> {
        let toolchain = toolchain::newest()?;
        let dir = tempfile::tempdir()?;
        let write = |name: &str, text: &str| -> Result<()> {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().context("no folder")?)?;
            Ok(std::fs::write(path, text)?)
        };
        write("go.mod", &format!("module m\n\ngo 1.{}\n", toolchain.minor()))?;
        write("a/a.go", "package a\n\nconst A = 1\n")?;
        write("b/b.go", "package b\n\nimport \"m/a\"\n\nconst B = a.A\n")?;
        write(
            "main.go",
            "package main\n\nimport \"m/b\"\n\nfunc main() { println(b.B) }\n",
        )?;
        let recorded = dir.path().join("recorded");
        write(
            "record",
            &format!("#!/bin/sh\necho \"$1\" >> {}\nexec \"$@\"\n", recorded.display()),
        )?;
        std::fs::set_permissions(dir.path().join("record"), std::fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            go: toolchain.root.join("bin/go"),
            dir,
        })
    }

    /// The number of starts that the script has recorded, by the tool's name.
    fn recorded(&self) -> Result<BTreeMap<String, u64>> {
        let text = std::fs::read_to_string(self.dir.path().join("recorded"))?;
        let mut recorded = BTreeMap::new();
        for line in text.lines() {
            let name = line.rsplit('/').next().unwrap_or_default();
            *recorded.entry(name.to_owned()).or_default() += 1;
        }
        Ok(recorded)
    }
}

#[test]
fn every_tool_that_go_build_starts_is_seen() -> Result<()> {
    let _one = machine();
    let module = Module::new()?;
    let dir = module.dir.path().display().to_string();
    let script = format!("{dir}/record");
    let traced = Traced::new(&module.go)?.options(&["--follow"]);
    let ran = ["-C", &dir, "build", "-toolexec", &script, "-o", "out/", "./..."]
        .into_iter()
        .fold(traced, Traced::arg)
        .env("GOTOOLCHAIN", "local")
        .env("GOCACHE", &format!("{dir}/cache"))
        .env("GOFLAGS", "-mod=mod")
        .env("CGO_ENABLED", "0")
        .run()?;
    ensure!(ran.status.success(), "{}", ran.stderr);
    let mut expected = module.recorded()?;
    expected.insert("go".to_owned(), 1);
    let seen = by_binary(&ran)?;
    println!("{seen:?}");
    ensure!(
        seen == expected,
        "recorded {expected:?}, seen {seen:?}, {:#?}",
        ran.init()?.tree
    );
    ensure!(expected.get("compile").is_some_and(|n| *n > 10), "{expected:?}");
    let capture = &ran.capture.as_ref().context("no capture")?.capture;
    ensure!(capture.complete && capture.lost_events == 0, "{capture:#?}");
    Ok(())
}
