//! Real Go programs for the tests of this room, built by every toolchain that `GMPSCOPE_GO_ROOTS` names.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

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
    /// Nothing is inlined.
    NoInline,
    /// As for a debugger: nothing is inlined, and nothing but the runtime is optimised.
    NoOpt,
    /// A plugin, of `plugin.go`.
    Plugin,
    /// A program that can load plugins, of `plugin_host.go`.
    PluginHost,
}

impl Build {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Build::Static | Build::Arm64 | Build::Cgo | Build::PluginHost => &[],
            Build::Stripped => &["-ldflags=-s -w"],
            Build::Pie | Build::CgoPie => &["-buildmode=pie"],
            Build::PieStripped | Build::CgoPieStripped => &["-buildmode=pie", "-ldflags=-s -w"],
            Build::CShared => &["-buildmode=c-shared"],
            Build::NoInline => &["-gcflags=all=-l"],
            Build::NoOpt => &["-gcflags=all=-N -l"],
            Build::Plugin => &["-buildmode=plugin"],
        }
    }

    fn cgo(self) -> bool {
        matches!(
            self,
            Build::Cgo
                | Build::CgoPie
                | Build::CgoPieStripped
                | Build::CShared
                | Build::Plugin
                | Build::PluginHost
        )
    }
}

/// The go.mod of the test program. It gives the main package a path, so that the names of its functions are as in any
/// program.
const MODULE: &str = "module example.org/program\n\ngo 1.19\n";

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

    /// Builds the test program, unless the cache has it.
    pub(crate) fn build(&self, build: Build) -> PathBuf {
        static BUILDING: Mutex<()> = Mutex::new(());
        // One at a time, so that two tests do not build the same.
        let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let (source, text) = match build {
            Build::Plugin => ("plugin.go", include_str!("plugin.go")),
            Build::PluginHost => ("plugin_host.go", include_str!("plugin_host.go")),
            _ if build.cgo() => ("cgo.go", include_str!("cgo.go")),
            _ => ("program.go", include_str!("program.go")),
        };
        let mut key = DefaultHasher::new();
        (text, MODULE, build.arguments()).hash(&mut key);
        let folder = cache()
            .join("unit-tests")
            .join(format!("{:016x}", key.finish()))
            .join(format!("{}-{build:?}", self.version));
        let program = folder.join("program");
        if program.is_file() {
            return program;
        }
        std::fs::create_dir_all(&folder).unwrap();
        // Built in a folder of its own and moved to its place complete: another run of the tests may want it at once.
        let scratch = tempfile::tempdir_in(&folder).unwrap();
        let dir = scratch.path();
        std::fs::write(dir.join(source), text).unwrap();
        std::fs::write(dir.join("go.mod"), MODULE).unwrap();
        let to = dir.join("program");
        let output = Command::new(self.root.join("bin/go"))
            .current_dir(dir)
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
        std::fs::rename(&to, &program).unwrap();
        program
    }
}

/// The folder of built programs, which all clones and runs share: see docs/development.md.
fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    set("GMPSCOPE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("gmpscope")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/gmpscope")))
        .expect("none of GMPSCOPE_CACHE, XDG_CACHE_HOME and HOME is set")
}
