//! Variants in which a program is built, and the builds.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::binary::{set_version, write_executable};
use crate::environment::{cache, package, prebuilt};
use crate::profile::Profile;
use crate::toolchain::{Toolchain, run};

/// How a workload is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// Static, with symbols and DWARF.
    Plain,
    /// `-ldflags "-s -w"`.
    Stripped,
    /// `-buildmode=pie`.
    Pie,
    /// `-buildmode=pie` and `-ldflags "-s -w"`.
    PieStripped,
    /// With cgo: linked by the system's linker, dynamically.
    Cgo,
    /// With cgo, position-independent.
    CgoPie,
    /// A plugin, `-buildmode=plugin`, for a program of [`Self::Cgo`].
    Plugin,
    /// As an archive (`-buildmode=c-archive`) in the C program `host/main.c` of its folder.
    Library,
    /// With [`Profile::Scheduler`].
    Pgo,
    /// With [`Profile::Recorded`], stripped.
    PgoStripped,
    /// With this profile, stripped; only examined, not run.
    Profiled(Profile),
    /// Like [`Self::Profiled`], for arm64.
    ProfiledArm64(Profile),
    /// With this `GOEXPERIMENT`.
    Experiment(&'static str),
    /// Stripped, and nothing is inlined: `-gcflags=all=-l`.
    NoInline,
    /// As for a debugger, stripped: `-gcflags=all=-N -l`.
    NoOpt,
    /// Stripped, and its build information has this version of Go.
    Version(&'static str),
    /// For 32-bit x86.
    I386,
    /// For arm64; only examined, not run.
    Arm64,
    /// For arm64, `-buildmode=pie` and stripped; only examined, not run.
    Arm64PieStripped,
}

impl Variant {
    /// The name for tables and files.
    pub fn name(self) -> String {
        match self {
            Variant::Plain => "plain".into(),
            Variant::Stripped => "stripped".into(),
            Variant::Pie => "pie".into(),
            Variant::PieStripped => "pie-stripped".into(),
            Variant::Cgo => "cgo".into(),
            Variant::CgoPie => "cgo-pie".into(),
            Variant::Plugin => "plugin".into(),
            Variant::Library => "library".into(),
            Variant::Pgo => "pgo".into(),
            Variant::PgoStripped => "pgo-stripped".into(),
            Variant::Profiled(profile) => format!("pgo-{}", profile.name()),
            Variant::ProfiledArm64(profile) => format!("pgo-{}-arm64", profile.name()),
            Variant::Experiment(x) => format!("X:{x}"),
            Variant::NoInline => "no-inline".into(),
            Variant::NoOpt => "no-opt".into(),
            Variant::Version(version) => {
                let plain = |c: char| {
                    if c.is_ascii_alphanumeric() || c == '.' {
                        c
                    } else {
                        '_'
                    }
                };
                version.chars().map(plain).collect()
            }
            Variant::I386 => "386".into(),
            Variant::Arm64 => "arm64".into(),
            Variant::Arm64PieStripped => "arm64-pie-stripped".into(),
        }
    }

    /// Whether the system's linker links it, so that it depends on libc.
    pub fn cgo(self) -> bool {
        matches!(
            self,
            Variant::Cgo | Variant::CgoPie | Variant::Plugin | Variant::Library
        )
    }

    /// The profile that it is built with.
    pub fn profile(self) -> Option<Profile> {
        match self {
            Variant::Pgo => Some(Profile::Scheduler),
            Variant::PgoStripped => Some(Profile::Recorded),
            Variant::Profiled(profile) | Variant::ProfiledArm64(profile) => Some(profile),
            _ => None,
        }
    }

    /// Builds a workload, unless the cache has it, and returns the binary.
    pub fn build(self, toolchain: &Toolchain, program: &str) -> Result<PathBuf> {
        if let Some(prebuilt) = prebuilt() {
            let binary = prebuilt.join(toolchain.version()).join(self.name()).join(program);
            return match binary.is_file() {
                true => Ok(binary),
                false => bail!("{} is not there, and cannot be built", binary.display()),
            };
        }
        let profile = self.profile().map(|profile| profile.file(toolchain.minor()));
        let key = format!("{:016x}", sources_hash(profile.as_deref())?);
        let dir = cache()?
            .join("workloads")
            .join(key)
            .join(toolchain.version())
            .join(self.name());
        let binary = dir.join(program);
        if binary.is_file() {
            return Ok(binary);
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // Built in another folder and moved to its place complete: two tests may want it at once.
        let scratch = tempfile::tempdir_in(&dir)?;
        let built = scratch.path().join(program);
        self.compile(toolchain, program, &built, scratch.path())
            .with_context(|| {
                format!(
                    "building {program} with Go {}, {}",
                    toolchain.version(),
                    self.name()
                )
            })?;
        std::fs::rename(&built, &binary)?;
        Ok(binary)
    }

    fn compile(self, toolchain: &Toolchain, program: &str, to: &Path, scratch: &Path) -> Result<()> {
        // The module's own go.mod names the oldest version; with it every newer runtime would behave as
        // that one did wherever a GODEBUG setting follows the go line.
        let modfile = scratch.join("go.mod");
        std::fs::write(
            &modfile,
            format!("module gmpscope.test/workloads\n\ngo 1.{}\n", toolchain.minor()),
        )?;
        let mut go = toolchain.go();
        go.current_dir(package().join("workloads"))
            .arg("build")
            .arg("-modfile")
            .arg(&modfile);
        go.env("CGO_ENABLED", if self.cgo() { "1" } else { "0" });
        let mut flags: Vec<String> = Vec::new();
        match self {
            Variant::Plain | Variant::Cgo => {}
            Variant::Stripped => flags.push("-ldflags=-s -w".into()),
            Variant::Pie | Variant::CgoPie => flags.push("-buildmode=pie".into()),
            Variant::Plugin => flags.push("-buildmode=plugin".into()),
            Variant::Library => flags.push("-buildmode=c-archive".into()),
            Variant::PieStripped => flags.extend(["-buildmode=pie".into(), "-ldflags=-s -w".into()]),
            Variant::Pgo => {}
            Variant::PgoStripped | Variant::Profiled(_) => flags.push("-ldflags=-s -w".into()),
            Variant::ProfiledArm64(_) => {
                go.env("GOARCH", "arm64");
                flags.push("-ldflags=-s -w".into());
            }
            Variant::Experiment(x) => {
                go.env("GOEXPERIMENT", x);
            }
            Variant::NoInline => flags.extend(["-gcflags=all=-l".into(), "-ldflags=-s -w".into()]),
            Variant::NoOpt => flags.extend(["-gcflags=all=-N -l".into(), "-ldflags=-s -w".into()]),
            Variant::Version(_) => flags.push("-ldflags=-s -w".into()),
            Variant::I386 => {
                go.env("GOARCH", "386");
            }
            Variant::Arm64 => {
                go.env("GOARCH", "arm64");
            }
            Variant::Arm64PieStripped => {
                go.env("GOARCH", "arm64");
                flags.extend(["-buildmode=pie".into(), "-ldflags=-s -w".into()]);
            }
        }
        if let Some(profile) = self.profile() {
            let file = profile.file(toolchain.minor());
            if !file.is_file() {
                bail!(
                    "there is no profile for Go {} ({}): `cargo xtask profiles` makes those of every Go from 1.21 on",
                    toolchain.version(),
                    file.display()
                );
            }
            flags.push(format!("-pgo={}", file.display()));
        }
        if self == Variant::Library {
            // `go build` writes the header beside it.
            let archive = scratch.join("library.a");
            run(go.args(flags).arg("-o").arg(&archive).arg(format!("./{program}")))?;
            let host = package().join("workloads").join(program).join("host/main.c");
            let mut cc = Command::new("cc");
            cc.arg("-o")
                .arg(to)
                .arg("-I")
                .arg(scratch)
                .arg(host)
                .arg(&archive);
            return run(cc.arg("-lpthread")).map(drop);
        }
        run(go.args(flags).arg("-o").arg(to).arg(format!("./{program}")))?;
        if let Variant::Version(version) = self {
            let mut bytes = std::fs::read(to)?;
            set_version(&mut bytes, version)?;
            write_executable(to, &bytes)?;
        }
        Ok(())
    }
}

/// A number that changes with the workloads' sources and with the profile that they are built with, for the name of a
/// folder in the cache. A compiler with another hasher only builds again.
fn sources_hash(profile: Option<&Path>) -> Result<u64> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                walk(&path, into)?;
            } else if path
                .extension()
                .is_some_and(|e| e == "go" || e == "s" || e == "c")
            {
                into.push(path);
            }
        }
        Ok(())
    }
    let root = package().join("workloads");
    let mut files = Vec::new();
    walk(&root, &mut files)?;
    files.sort();
    let mut h = DefaultHasher::new();
    for f in files {
        f.strip_prefix(&root)?.hash(&mut h);
        std::fs::read(&f)?.hash(&mut h);
    }
    // A missing profile is reported when a program is built with it.
    if let Some(profile) = profile.filter(|profile| profile.is_file()) {
        std::fs::read(profile)?.hash(&mut h);
    }
    Ok(h.finish())
}
