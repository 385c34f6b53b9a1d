//! Real Go programs for the tests of this room, built by every toolchain that `GMPSCOPE_GO_ROOTS` names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

/// How the test program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Build {
    Static,
    Stripped,
    Pie,
    PieStripped,
    Arm64,
    Cgo,
    CgoPie,
    CgoPieStripped,
    CShared,
}

impl Build {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Build::Static | Build::Arm64 | Build::Cgo => &[],
            Build::Stripped => &["-ldflags=-s -w"],
            Build::Pie | Build::CgoPie => &["-buildmode=pie"],
            Build::PieStripped | Build::CgoPieStripped => &["-buildmode=pie", "-ldflags=-s -w"],
            Build::CShared => &["-buildmode=c-shared"],
        }
    }

    fn cgo(self) -> bool {
        matches!(
            self,
            Build::Cgo | Build::CgoPie | Build::CgoPieStripped | Build::CShared
        )
    }
}

/// Where each program is.
type Built = HashMap<(Go, Build), PathBuf>;

/// A Go distribution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Go {
    /// `go1.27.3`.
    pub version: String,
    /// 27.
    pub minor: u32,
    root: PathBuf,
}

impl Go {
    /// All of them, oldest first. Fails if there is none: a test that finds nothing to test is no test.
    pub(crate) fn all() -> Vec<Self> {
        let roots = std::env::var_os("GMPSCOPE_GO_ROOTS").expect(
            "GMPSCOPE_GO_ROOTS does not name Go toolchains: run `cargo xtask test`, which sets all up",
        );
        let mut all: Vec<Go> = std::env::split_paths(&roots).map(|root| Go::at(&root)).collect();
        assert!(
            !all.is_empty(),
            "GMPSCOPE_GO_ROOTS is empty: run `cargo xtask test`"
        );
        all.sort_by_key(|go| go.minor);
        all
    }

    /// The newest.
    pub(crate) fn newest() -> Self {
        Self::all().pop().unwrap()
    }

    fn at(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join("VERSION"))
            .unwrap_or_else(|e| panic!("{} is no GOROOT ({e}): run `cargo xtask test`", root.display()));
        let version = text.split_whitespace().next().unwrap().to_owned();
        let minor = version.split('.').nth(1).unwrap().parse().unwrap();
        Self {
            version,
            minor,
            root: root.to_owned(),
        }
    }

    /// Builds the test program, once per run of the tests.
    pub(crate) fn build(&self, build: Build) -> PathBuf {
        static BUILT: OnceLock<(TempDir, Mutex<Built>)> = OnceLock::new();
        let (dir, built) = BUILT.get_or_init(|| (TempDir::new().unwrap(), Mutex::default()));
        let mut built = built.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.clone(), build);
        if let Some(path) = built.get(&key) {
            return path.clone();
        }
        let dir = dir.path().join(format!("{}-{build:?}", self.version));
        std::fs::create_dir(&dir).unwrap();
        let (source, text) = if build.cgo() {
            ("cgo.go", include_str!("cgo.go"))
        } else {
            ("program.go", include_str!("program.go"))
        };
        std::fs::write(dir.join(source), text).unwrap();
        // The main package has a path, so that the names of its functions are as in any program.
        std::fs::write(dir.join("go.mod"), "module example.org/program\n\ngo 1.19\n").unwrap();
        let to = dir.join("program");
        let output = Command::new(self.root.join("bin/go"))
            .current_dir(&dir)
            .args(["build", "-o"])
            .arg(&to)
            .args(build.arguments())
            .arg(".")
            .env("GOROOT", &self.root)
            .env("GOTOOLCHAIN", "local")
            .env("GOPROXY", "off")
            .env("GOFLAGS", "-mod=mod -buildvcs=false")
            .env("GOWORK", "off")
            .env("GOARCH", if build == Build::Arm64 { "arm64" } else { "amd64" })
            .env("CGO_ENABLED", if build.cgo() { "1" } else { "0" })
            .env_remove("GOEXPERIMENT")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{} cannot build {build:?}: {}",
            self.version,
            String::from_utf8_lossy(&output.stderr)
        );
        built.insert(key, to.clone());
        to
    }
}
