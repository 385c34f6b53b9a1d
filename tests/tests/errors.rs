//! Targets that cannot be traced: each is refused with the right exit status and a message that names it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use gmpscope_tests::binary::{
    all_executable, replace_all, scramble_function_names, without_section_headers, write_executable,
};
use gmpscope_tests::run::gmpscope_with;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::{Attach, Toolchain, Variant, Workload, machine, toolchain};

/// Any program, killed on drop.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Result<Self> {
        Ok(Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A stripped `idle` of this toolchain, patched, and its process.
fn changed(
    t: &Toolchain,
    change: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<(tempfile::TempDir, Workload)> {
    let mut bytes = std::fs::read(Variant::Stripped.build(t, "mixed")?)?;
    change(&mut bytes)?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("changed");
    write_executable(&path, &bytes)?;
    let w = Workload::start(&path, 2, &[])?;
    Ok((dir, w))
}

const MODES: [&str; 4] = ["auto", "passive", "sampled", "exact"];

#[test]
fn a_process_that_is_gone() -> Result<()> {
    let mut p = Program::start(&mut Command::new("/bin/true"))?;
    p.0.wait()?;
    let pid = p.pid();
    for mode in MODES {
        Attach::to(pid)
            .mode(mode)
            .run()?
            .expect_failure(3, &[&pid.to_string(), "process"])?;
    }
    Ok(())
}

#[test]
fn a_program_that_is_not_go() -> Result<()> {
    let p = Program::start(Command::new("/bin/sleep").arg("60"))?;
    for mode in MODES {
        Attach::to(p.pid())
            .mode(mode)
            .run()?
            .expect_failure(3, &["sleep", "not a Go program"])?;
    }
    Ok(())
}

#[test]
fn somebody_elses_process() -> Result<()> {
    let w = Case::new(&toolchain::newest()?, Variant::Stripped, "idle").start()?;
    for mode in MODES {
        let o = Attach::to(w.pid()).mode(mode).user(65534).run()?;
        o.expect_failure(4, &[&w.pid().to_string(), "root"])?;
    }
    Ok(())
}

/// A kernel thread: child of kthreadd, without an executable.
fn kernel_thread() -> Result<u32> {
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // The second field is in parentheses and may hold anything; then come state, ppid, …, flags.
        let after: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        const PF_KTHREAD: u64 = 0x0020_0000;
        let flags: u64 = after.get(6).and_then(|f| f.parse().ok()).unwrap_or(0);
        if flags & PF_KTHREAD != 0 {
            return Ok(pid);
        }
    }
    anyhow::bail!("no kernel thread is to be seen: run the tests in the initial PID namespace")
}

#[test]
fn a_kernel_thread() -> Result<()> {
    let pid = kernel_thread()?;
    for mode in MODES {
        Attach::to(pid)
            .mode(mode)
            .run()?
            .expect_failure(3, &[&pid.to_string(), "kernel thread"])?;
    }
    Ok(())
}

#[test]
fn a_32_bit_program() -> Result<()> {
    let binary = Variant::I386.build(&toolchain::newest()?, "idle")?;
    gmpscope_with([Path::new("inspect"), &binary])?.expect_failure(3, &["idle", "32-bit"])?;
    let p = Program::start(&mut Command::new(&binary)).context("this kernel does not run 32-bit programs")?;
    Attach::to(p.pid()).run()?.expect_failure(3, &["32-bit"])
}

#[test]
fn a_program_of_an_old_go() -> Result<()> {
    let t = toolchain::newest()?;
    let (_dir, w) = changed(&t, |b| {
        let n = replace_all(b, format!("go{}", t.version()).as_bytes(), b"go1.17.3")?;
        anyhow::ensure!(n > 0, "the version is not in the file");
        Ok(())
    })?;
    for mode in MODES {
        Attach::to(w.pid())
            .mode(mode)
            .run()?
            .expect_failure(3, &["1.17"])?;
    }
    Ok(())
}

#[test]
fn a_program_of_a_go_to_come() -> Result<()> {
    let _one = machine();
    let t = toolchain::newest()?;
    let (_dir, mut w) = changed(&t, |b| {
        let n = replace_all(b, format!("go{}", t.version()).as_bytes(), b"go1.99.3")?;
        anyhow::ensure!(n > 0, "the version is not in the file");
        Ok(())
    })?;
    // Stripped, so there is no DWARF to take layouts from. What needs none works; the rest is refused by name, or takes
    // the layout of the newest release that its memory fits, and says that it is unproven.
    for mode in MODES {
        let mut tracer = Attach::to(w.pid()).mode(mode).spawn()?;
        let before = w.count()?;
        if tracer.attached().is_err() {
            tracer.finish()?.expect_failure(3, &["1.99"])?;
            continue;
        }
        let after = w.go_during(std::time::Duration::from_millis(100))?;
        let c = tracer.interrupt()?.captured()?;
        let own = after.latencies.since(&before.latencies).without_zeros().count();
        let count = c.runnable_to_running.count;
        assert!(
            count + 5 >= own,
            "{mode}: the runtime sampled {own} waits, gmpscope has {count}"
        );
        let unproven = c
            .target
            .layout
            .as_ref()
            .is_some_and(|layout| layout.raw().contains("unproven"));
        assert!(
            c.goroutines.is_none() || unproven,
            "{mode}: gauges by a layout of which nothing is said"
        );
        let notes: Vec<String> = c.capture.notes.iter().map(ToString::to_string).collect();
        let notes = notes.join("\n");
        assert!(
            notes.contains("1.99"),
            "{mode} does not say what it does without:\n{notes}"
        );
    }
    Ok(())
}

#[test]
fn an_obfuscated_program() -> Result<()> {
    let (_dir, w) = changed(&toolchain::newest()?, |b| {
        let n = scramble_function_names(b);
        anyhow::ensure!(n > 500, "only {n} names");
        Ok(())
    })?;
    for mode in MODES {
        Attach::to(w.pid())
            .mode(mode)
            .run()?
            .expect_failure(3, &["garble"])?;
    }
    Ok(())
}

#[test]
fn go_inside_a_shared_library() -> Result<()> {
    let t = toolchain::newest()?;
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("go.mod"), format!("module lib\n\ngo 1.{}\n", t.minor()))?;
    std::fs::write(
        at("lib.go"),
        "package main\n\nimport \"C\"\n\n//export Forever\nfunc Forever() { select {} }\n\nfunc main() {}\n",
    )?;
    std::fs::write(
        at("main.c"),
        "extern void Forever(void);\nint main(void) { Forever(); return 0; }\n",
    )?;
    let status = t
        .go()
        .current_dir(dir.path())
        .env("CGO_ENABLED", "1")
        .args(["build", "-buildmode=c-shared", "-o", "libforever.so", "."])
        .status()?;
    anyhow::ensure!(status.success(), "go build -buildmode=c-shared");
    let status = Command::new("cc")
        .current_dir(dir.path())
        .args(["-o", "host", "main.c", "-L.", "-lforever", "-Wl,-rpath,$ORIGIN"])
        .status()?;
    anyhow::ensure!(status.success(), "cc");
    let p = Program::start(&mut Command::new(at("host")))?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    Attach::to(p.pid()).run()?.expect_failure(3, &["host"])?;
    gmpscope_with([Path::new("inspect"), &at("libforever.so")])?
        .expect_failure(3, &["libforever.so", "shared"])
}

#[test]
fn a_program_without_section_headers_is_traced() -> Result<()> {
    let _one = machine();
    let (_dir, w) = changed(&toolchain::newest()?, |b| {
        without_section_headers(b);
        Ok(())
    })?;
    is_traced(w)
}

/// Then the function table is in the segment of the code, too.
#[test]
fn a_program_whose_segments_are_all_executable_is_traced() -> Result<()> {
    let _one = machine();
    let (_dir, w) = changed(&toolchain::newest()?, |b| {
        without_section_headers(b);
        anyhow::ensure!(all_executable(b) >= 2, "they were executable already");
        Ok(())
    })?;
    is_traced(w)
}

fn is_traced(mut w: Workload) -> Result<()> {
    for mode in ["passive", "sampled", "exact"] {
        let tracer = Attach::to(w.pid()).mode(mode).start()?;
        w.go_during(std::time::Duration::from_millis(100))?;
        let c = tracer.interrupt()?.captured()?;
        assert!(c.runnable_to_running.count > 0, "{mode}: no waits");
    }
    Ok(())
}

#[test]
fn files_that_are_cut_off() -> Result<()> {
    let bytes = std::fs::read(Variant::Pie.build(&toolchain::newest()?, "idle")?)?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("cut-off");
    for length in [
        0,
        1,
        4,
        15,
        16,
        63,
        64,
        100,
        1000,
        4096,
        bytes.len() / 4,
        bytes.len() / 2,
    ] {
        write_executable(&path, &bytes[..length])?;
        gmpscope_with([Path::new("inspect"), &path])?
            .expect_failure(3, &["cut-off"])
            .with_context(|| format!("cut off after {length} bytes"))?;
    }
    Ok(())
}

#[test]
fn files_with_wrong_bytes() -> Result<()> {
    let bytes = std::fs::read(Variant::Stripped.build(&toolchain::newest()?, "idle")?)?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("corrupted");
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x % below as u64) as usize
    };
    let magic = [0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    let table = bytes
        .windows(8)
        .position(|w| w == magic)
        .context("no function table")?;
    for round in 0..60 {
        let mut b = bytes.clone();
        // A third each in the ELF header and program headers, in the function table, and anywhere.
        for _ in 0..8 {
            let at = match round % 3 {
                0 => random(0x400),
                1 => table + random(0x2000),
                _ => random(b.len()),
            };
            b[at] = random(256) as u8;
        }
        write_executable(&path, &b)?;
        let o = gmpscope_with([Path::new("inspect"), &path])?;
        assert!(
            [0, 3].contains(&o.code()),
            "round {round}: status {}\n{}",
            o.code(),
            o.stderr
        );
        assert!(!o.stderr.contains("panicked"), "round {round}:\n{}", o.stderr);
        assert!(
            o.code() == 0 || o.stderr.contains("corrupted"),
            "round {round} does not name the file:\n{}",
            o.stderr
        );
    }
    Ok(())
}
