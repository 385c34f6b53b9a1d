//! Stripped Go binaries as large as those of big servers: one of some 100 MB with tens of thousands of functions, and
//! one of 400 MB with 20 000 `go` statements.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{go, paths, process, step};

/// Packages, and functions in each: in all as many functions as a Kubernetes server has.
const PACKAGES: usize = 80;
const FUNCTIONS: usize = 800;
/// Embedded data, which makes up the rest of the size.
const DATA_BYTES: usize = 40 << 20;
/// Embedded data of the binary of 400 MB with `go` statements.
const GO_DATA_BYTES: usize = 390 << 20;

/// Builds the binary of 100 MB unless it exists, which takes the Go compiler minutes.
pub fn build(release: &str) -> Result<PathBuf> {
    build_once("large", release, write_source)
}

/// Builds the binary of 400 MB with 20 000 `go` statements unless it exists, which takes a minute and 1 GB of memory.
pub fn build_with_goroutines(release: &str) -> Result<PathBuf> {
    build_with(release, 20_000, GO_DATA_BYTES)
}

/// Builds a binary with so many `go` statements, rounded up to a multiple of 800, each in a function of its own that is
/// called in turn, and with so many bytes of data, unless it exists.
pub fn build_with(release: &str, statements: usize, data_bytes: usize) -> Result<PathBuf> {
    let packages = statements.div_ceil(FUNCTIONS);
    let name = format!("goes-{packages}-{}", data_bytes >> 20);
    build_once(&name, release, |folder| {
        write_goroutines(folder, packages, data_bytes)
    })
}

fn build_once(name: &str, release: &str, write: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = paths::target().join("bench").join(name);
    let binary = folder.join("large");
    if binary.is_file() {
        return Ok(binary);
    }
    write(&folder)?;
    let partial = folder.join("large.partial");
    let mut go = go::command(&go::root(release)?);
    go.current_dir(&folder)
        .args(["build", "-ldflags=-s -w", "-o"])
        .arg(&partial)
        .arg(".");
    step::run_quietly("building a large Go program", &mut go)?;
    fs::rename(&partial, &binary)?;
    Ok(binary)
}

/// Writes the go.mod and the data that the program embeds.
fn write_module(folder: &Path, data_bytes: usize) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    fs::write(folder.join("go.mod"), "module large\n\ngo 1.21\n")?;
    // Neither zero nor compressible: a file system could store it in less space.
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let data: Vec<u8> = words.take(data_bytes / 8).flatten().collect();
    fs::write(folder.join("data.bin"), data)?;
    Ok(())
}

/// Writes a program that starts goroutines in one function after the other, for ever.
fn write_goroutines(folder: &Path, packages: usize, data_bytes: usize) -> Result<()> {
    write_module(folder, data_bytes)?;
    let mut imports = String::new();
    let mut calls = String::new();
    for package in 0..packages {
        let place = folder.join(format!("p{package}"));
        fs::create_dir_all(&place)?;
        let mut source = format!("package p{package}\n\nvar All = []func(func()){{\n");
        for function in 0..FUNCTIONS {
            writeln!(source, "\tf{function},")?;
        }
        source += "}\n\n";
        for function in 0..FUNCTIONS {
            writeln!(source, "func f{function}(done func()) {{ go done() }}")?;
        }
        fs::write(place.join("p.go"), source)?;
        writeln!(imports, "\t\"large/p{package}\"")?;
        writeln!(calls, "\t\tp{package}.All,")?;
    }
    let main = format!(
        "package main\n\nimport (\n\t_ \"embed\"\n\t\"os\"\n\t\"sync\"\n{imports})\n\n//go:embed data.bin\nvar data string\n\n\
         func main() {{\n\tall := [][]func(func()){{\n{calls}\t}}\n\
         \tif len(os.Args) > 9 {{\n\t\tprintln(data[len(os.Args):])\n\t}}\n\
         \tfor {{\n\t\tfor _, some := range all {{\n\t\t\tvar done sync.WaitGroup\n\t\t\tdone.Add(len(some))\n\
         \t\t\tfor _, f := range some {{\n\t\t\t\tf(done.Done)\n\t\t\t}}\n\t\t\tdone.Wait()\n\t\t}}\n\t}}\n}}\n"
    );
    fs::write(folder.join("main.go"), main)?;
    Ok(())
}

/// Writes a program with many functions, which only switches between two goroutines.
fn write_source(folder: &Path) -> Result<()> {
    write_module(folder, DATA_BYTES)?;
    let mut imports = String::new();
    let mut calls = String::new();
    for package in 0..PACKAGES {
        let place = folder.join(format!("p{package}"));
        fs::create_dir_all(&place)?;
        fs::write(place.join("p.go"), package_source(package)?)?;
        writeln!(imports, "\t\"large/p{package}\"")?;
        writeln!(calls, "\t\tp{package}.All,")?;
    }
    let main = format!(
        "package main\n\nimport (\n\t_ \"embed\"\n\t\"fmt\"\n{imports})\n\n//go:embed data.bin\nvar data string\n\n\
         func main() {{\n\tall := [][]func(int, string) string{{\n{calls}\t}}\n\
         \tfmt.Println(len(data), len(all))\n\
         \tthere, back := make(chan int), make(chan int)\n\
         \tgo func() {{\n\t\tfor n := range there {{\n\t\t\tback <- n\n\t\t}}\n\t}}()\n\
         \tfor n := 0; ; n++ {{\n\t\tthere <- n\n\t\t<-back\n\t\tif n < 0 {{\n\t\t\tfmt.Println(all[n%80][n%800](n, data))\n\t\t}}\n\t}}\n}}\n"
    );
    fs::write(folder.join("main.go"), main)?;
    Ok(())
}

fn package_source(package: usize) -> Result<String> {
    let mut source = format!("package p{package}\n\nimport \"fmt\"\n\n");
    let mut all = String::from("var All = []func(int, string) string{\n");
    for function in 0..FUNCTIONS {
        writeln!(
            source,
            "func f{function}(n int, s string) string {{\n\
             \tm := map[string]int{{s: n, \"{package}-{function}\": {function}}}\n\
             \tfor i := 0; i < n; i++ {{\n\t\tm[fmt.Sprint(s, i)] += i*{function} + len(s)\n\t}}\n\
             \tswitch n % 4 {{\n\tcase 0:\n\t\treturn fmt.Sprintf(\"%s of %d and %v\", s, n, m)\n\
             \tcase 1:\n\t\tpanic(fmt.Errorf(\"{package}.{function}: %q\", s))\n\t}}\n\
             \tdefer func() {{ delete(m, s) }}()\n\treturn fmt.Sprint(m[s] / (n + 1))\n}}\n"
        )?;
        writeln!(all, "\tf{function},")?;
    }
    Ok(format!("{source}{all}}}\n"))
}

/// One of these programs, running on one P. It is killed when this is dropped.
pub struct LargeProgram(process::Running);

impl LargeProgram {
    /// Starts it, and gives it a second.
    pub fn start(binary: &Path) -> Result<Self> {
        let child = Command::new(binary)
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let running = Self(process::Running(child));
        thread::sleep(Duration::from_secs(1));
        Ok(running)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.0.id()
    }
}
