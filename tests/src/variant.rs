//! Ways to build a program, and the builds.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tracer_user::target::{Code, binary::GoBinary};

use crate::environment::{cache, package, prebuilt};
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
    /// Both.
    PieStripped,
    /// With cgo: linked by the system's linker, dynamically.
    Cgo,
    /// With cgo, position-independent.
    CgoPie,
    /// With a profile of a program that makes the scheduler hot.
    Pgo,
    /// The same, stripped.
    PgoStripped,
    /// With this `GOEXPERIMENT`.
    Experiment(&'static str),
    /// For 32-bit x86.
    I386,
    /// For arm64: to look at, not to run.
    Arm64,
    /// The same, `-buildmode=pie` and stripped.
    Arm64PieStripped,
}

impl Variant {
    /// A name for tables and file names.
    pub fn name(self) -> String {
        match self {
            Variant::Plain => "plain".into(),
            Variant::Stripped => "stripped".into(),
            Variant::Pie => "pie".into(),
            Variant::PieStripped => "pie-stripped".into(),
            Variant::Cgo => "cgo".into(),
            Variant::CgoPie => "cgo-pie".into(),
            Variant::Pgo => "pgo".into(),
            Variant::PgoStripped => "pgo-stripped".into(),
            Variant::Experiment(x) => format!("X:{x}"),
            Variant::I386 => "386".into(),
            Variant::Arm64 => "arm64".into(),
            Variant::Arm64PieStripped => "arm64-pie-stripped".into(),
        }
    }

    /// Whether the system's linker makes it, so that it depends on libc.
    pub fn cgo(self) -> bool {
        matches!(self, Variant::Cgo | Variant::CgoPie)
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
        let key = format!("{:016x}", sources_hash()?);
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
        // Built beside its place and moved there whole: two tests may want it at once.
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
            Variant::PieStripped => flags.extend(["-buildmode=pie".into(), "-ldflags=-s -w".into()]),
            Variant::Pgo | Variant::PgoStripped => {
                if toolchain.minor() < 21 {
                    bail!("Go {} has no -pgo", toolchain.version());
                }
                if self == Variant::PgoStripped {
                    flags.push("-ldflags=-s -w".into());
                }
                return self.compile_with_profile(toolchain, program, to, &modfile, &flags);
            }
            Variant::Experiment(x) => {
                go.env("GOEXPERIMENT", x);
            }
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
        run(go.args(flags).arg("-o").arg(to).arg(format!("./{program}"))).map(drop)
    }

    /// Builds the program with a profile of one that does a bit of everything, so that what is hot is the scheduler. A busy machine gives a profile too few samples to show
    /// what is hot: then it is taken again, for longer.
    fn compile_with_profile(
        self,
        toolchain: &Toolchain,
        program: &str,
        to: &Path,
        modfile: &Path,
        flags: &[String],
    ) -> Result<()> {
        let plain = Variant::Plain.build(toolchain, PROFILED)?;
        let profile = modfile.with_file_name("cpu.pprof");
        for time in ["1s", "3s", "9s"] {
            let mut workload = std::process::Command::new(&plain);
            run(workload.args(["-for", time, "-cpuprofile"]).arg(&profile))?;
            let mut go = toolchain.go();
            go.current_dir(package().join("workloads"))
                .env("CGO_ENABLED", "0")
                .arg("build")
                .arg("-modfile")
                .arg(modfile)
                .arg(format!("-pgo={}", profile.display()))
                .args(flags);
            run(go.arg("-o").arg(to).arg(format!("./{program}")))?;
            if is_inlined(to)? {
                return Ok(());
            }
        }
        bail!("no profile of {PROFILED} made the compiler inline casgstatus")
    }
}

/// The program whose profile others are built with.
const PROFILED: &str = "mixed";

/// Whether the compiler has put casgstatus into the scheduler's functions, for which such builds are made.
fn is_inlined(binary: &Path) -> Result<bool> {
    let bytes = std::fs::read(binary)?;
    let parsed = GoBinary::parse(&bytes, &binary.display().to_string())?;
    Ok(parsed.runtime_functions().iter().any(|f| {
        let inlined = parsed.inlined_into(f);
        inlined.iter().any(|(name, _)| name == "runtime.casgstatus")
    }))
}

/// A number that changes with the workloads' sources. It names a folder of the cache; a compiler whose
/// hasher differs only builds again.
fn sources_hash() -> Result<u64> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                walk(&path, into)?;
            } else if path.extension().is_some_and(|e| e == "go" || e == "s") {
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
    Ok(h.finish())
}
