//! Real Go toolchains, and small binaries of them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tracer_user::binary::{Arch, GoVersion};

/// One toolchain of `GMPSCOPE_GO_ROOTS`.
pub struct Toolchain {
    pub root: PathBuf,
    pub version: GoVersion,
}

/// All of them. Without the variable there is nothing to test with, which is a failure.
pub fn toolchains() -> Vec<Toolchain> {
    let roots = std::env::var_os("GMPSCOPE_GO_ROOTS")
        .expect("GMPSCOPE_GO_ROOTS must name Go toolchains: run the tests by `cargo xtask test`");
    let all: Vec<_> = std::env::split_paths(&roots)
        .filter(|root| !root.as_os_str().is_empty())
        .map(Toolchain::at)
        .collect();
    assert!(
        !all.is_empty(),
        "GMPSCOPE_GO_ROOTS is empty: run the tests by `cargo xtask test`"
    );
    all
}

/// The one toolchain of this minor version.
pub fn toolchain(minor: u32) -> Toolchain {
    toolchains()
        .into_iter()
        .find(|t| t.version.minor == minor)
        .unwrap_or_else(|| {
            panic!("GMPSCOPE_GO_ROOTS has no Go 1.{minor}: run the tests by `cargo xtask test`")
        })
}

/// How a binary is built.
#[derive(Clone, Copy, Default)]
pub struct Build<'a> {
    pub arch: Option<Arch>,
    pub experiment: &'a str,
    pub flags: &'a [&'a str],
    pub cgo: bool,
}

impl Toolchain {
    fn at(root: PathBuf) -> Self {
        let text = fs::read_to_string(root.join("VERSION")).unwrap();
        let raw = text.split_whitespace().next().unwrap().to_owned();
        let mut numbers = raw
            .strip_prefix("go1.")
            .unwrap()
            .split('.')
            .map(|n| n.parse().unwrap());
        let version = GoVersion {
            minor: numbers.next().unwrap(),
            patch: numbers.next().unwrap_or(0),
            vendor_or_prerelease: None,
            experiments: vec![],
            raw,
        };
        Toolchain { root, version }
    }

    /// Builds a program of these lines after `package main`.
    pub fn build(&self, program: &str, how: Build<'_>) -> Binary {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("main.go"),
            format!("package main\n{program}\n"),
        )
        .unwrap();
        fs::write(
            folder.path().join("go.mod"),
            format!("module tiny\n\ngo 1.{}\n", self.version.minor),
        )
        .unwrap();
        let path = folder.path().join("tiny");
        let output = Command::new(self.root.join("bin/go"))
            .args(["build", "-o"])
            .arg(&path)
            .args(how.flags)
            .arg(".")
            .current_dir(folder.path())
            .env("GOROOT", &self.root)
            .envs([
                ("GOTOOLCHAIN", "local"),
                ("GOPROXY", "off"),
                ("GOFLAGS", "-mod=mod"),
                ("GOWORK", "off"),
            ])
            .env("GOEXPERIMENT", how.experiment)
            .env("GOARCH", how.arch.unwrap_or(Arch::Amd64).name())
            .env("CGO_ENABLED", if how.cgo { "1" } else { "0" })
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: go build failed:\n{error}",
            self.version.raw
        );
        Binary {
            path,
            _folder: folder,
        }
    }
}

/// A built program; its file goes with it.
pub struct Binary {
    path: PathBuf,
    _folder: TempDir,
}

impl Binary {
    #[allow(dead_code, reason = "not every test that shares this file runs its binaries")]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    #[allow(dead_code, reason = "not every test that shares this file reads its binaries")]
    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }
}
