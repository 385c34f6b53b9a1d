//! Which Rust compiles the programs in `tracer-ebpf`, with which linker, and in which environment.
//!
//! Included by `tracer-user/build.rs`, which compiles them, and by `xtask`, which installs what is missing
//! and runs clippy on them: both must choose alike.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target of the kernel's virtual machine, in little endian as on both architectures.
pub const BPF_TARGET: &str = "bpfel-unknown-none";
/// `debuginfo` carries the types for BTF, which the linker writes: the verifier names lines by it, and aya
/// reads the maps' definitions from it.
pub const BPF_RUSTFLAGS: &str = "-C debuginfo=2 -C link-arg=--btf";
/// What installs everything that is missing.
pub const SETUP: &str = "cargo xtask setup";

/// A Rust that can build `core` for the BPF target: it carries `core`'s source, of its own version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// One of rustup's, by its full name. A stable one is told to take `-Z` by `RUSTC_BOOTSTRAP`.
    Rustup { name: String, nightly: bool },
    /// The distribution's own, in /usr/bin (Debian: rustc-web, cargo-web, rust-web-src).
    System,
}

impl Toolchain {
    /// The first that can do it: a nightly of rustup's, the system's, any other of rustup's. None of the
    /// three is fetched here.
    pub fn find() -> Option<Self> {
        let rustup = rustup_toolchains_with_source();
        let nightly = rustup
            .iter()
            .find(|t| matches!(t, Self::Rustup { nightly: true, .. }));
        nightly
            .cloned()
            .or_else(|| system_has_source().then_some(Self::System))
            .or_else(|| rustup.into_iter().next())
    }

    /// A `cargo` of this toolchain in a clean environment: nothing that an outer cargo, its build scripts,
    /// or the user's settings for the host say about compilers and flags reaches it.
    pub fn cargo(&self) -> Command {
        self.with_unstable_options(self.program("cargo"))
    }

    /// Its `cargo clippy`. Started directly, since the system's cargo would look for it on PATH, where
    /// rustup's may come first.
    #[allow(dead_code, reason = "only xtask checks, only the build script compiles")]
    pub fn cargo_clippy(&self) -> Command {
        let mut command = self.with_unstable_options(self.program("cargo-clippy"));
        if *self == Self::System {
            command.env("CARGO", "/usr/bin/cargo");
        }
        // Started by cargo it is told its own name first.
        command.arg("clippy");
        command
    }

    fn with_unstable_options(&self, mut command: Command) -> Command {
        match self {
            Self::Rustup { nightly: true, .. } => {}
            Self::Rustup { .. } => {
                command.env("RUSTC_BOOTSTRAP", "1");
            }
            Self::System => {
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
            }
        }
        command
    }

    /// One of this toolchain's programs, in a clean environment.
    pub fn program(&self, name: &str) -> Command {
        let mut command = match self {
            Self::Rustup { name: toolchain, .. } => {
                let mut command = Command::new("rustup");
                command.args(["run", toolchain, name]);
                command
            }
            Self::System => Command::new(Path::new("/usr/bin").join(name)),
        };
        clean_environment(&mut command);
        command
    }
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rustup { name, .. } => write!(f, "rustup's {name}"),
            Self::System => f.write_str("the system's /usr/bin/rustc"),
        }
    }
}

fn rustup_toolchains_with_source() -> Vec<Toolchain> {
    let names = output_of(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    names
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| {
            let mut rustc = Command::new("rustup");
            rustc.args(["run", name, "rustc", "--print", "sysroot"]);
            clean_environment(&mut rustc);
            output_of(&mut rustc).is_some_and(|sysroot| has_source(Path::new(sysroot.trim())))
        })
        .map(|name| Toolchain::Rustup {
            name: name.to_owned(),
            nightly: name.starts_with("nightly"),
        })
        .collect()
}

fn system_has_source() -> bool {
    if !Path::new("/usr/bin/cargo").exists() {
        return false;
    }
    let mut rustc = Command::new("/usr/bin/rustc");
    rustc.args(["--print", "sysroot"]);
    clean_environment(&mut rustc);
    output_of(&mut rustc).is_some_and(|sysroot| has_source(Path::new(sysroot.trim())))
}

fn has_source(sysroot: &Path) -> bool {
    sysroot
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .exists()
}

/// Standard output of a command that succeeded.
fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The linker for BPF: on PATH, or where `cargo xtask setup` puts it.
pub fn bpf_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cached = cache_dir().map(|cache| cache.join("tools/bin"));
    env::split_paths(&path)
        .chain(cached)
        .map(|dir| dir.join("bpf-linker"))
        .find(|file| file.is_file())
}

/// Where tools and Go toolchains are kept, outside the repository so that clones share them:
/// `$GMPSCOPE_CACHE`, `$XDG_CACHE_HOME/gmpscope` or `~/.cache/gmpscope`.
pub fn cache_dir() -> Option<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("GMPSCOPE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("gmpscope")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/gmpscope")))
}

/// Settings of cargo's and rustup's own (where they keep their files, which registry and proxy) that an
/// inner cargo needs too.
const KEPT: [&str; 6] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

/// Takes from `command` what an outer cargo and the user say to compilers of the host.
fn clean_environment(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let cargo = name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept));
        let rustc = name.starts_with("RUSTC") || name.starts_with("RUSTDOC");
        let script = matches!(
            name,
            "RUSTFLAGS"
                | "RUSTUP_TOOLCHAIN"
                | "RUST_RECURSION_COUNT"
                | "TARGET"
                | "HOST"
                | "OUT_DIR"
                | "PROFILE"
                | "OPT_LEVEL"
                | "DEBUG"
                | "NUM_JOBS"
        );
        if cargo || rustc || script {
            command.env_remove(name);
        }
    }
    // An outer cargo puts its own compiler's libraries first; another compiler would load them.
    if let Some(libraries) = env::var_os("LD_LIBRARY_PATH") {
        let theirs = |dir: &PathBuf| {
            !["toolchains", "target"]
                .iter()
                .any(|part| dir.iter().any(|have| have.to_str() == Some(*part)))
        };
        let kept: Vec<PathBuf> = env::split_paths(&libraries).filter(theirs).collect();
        match env::join_paths(&kept) {
            Ok(joined) if !kept.is_empty() => command.env("LD_LIBRARY_PATH", joined),
            _ => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
}
