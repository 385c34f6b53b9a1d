//! Programs of others that read the file of a traced program see its contents unchanged, whatever gmpscope does. The
//! kernel puts a uprobe's breakpoints into every private mapping that its filter admits, read-only ones too; so each
//! test checks such mappings, and git's blob of the file, all the while.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::daemon::Daemon;
use gmpscope_tests::start::Traced;
use gmpscope_tests::unread::until;
use gmpscope_tests::{Variant, environment, machine, toolchain};
use tracer_user::document::capture::Capture;

/// How long anything here may take on a machine where other tests compile.
const PATIENCE: Duration = Duration::from_secs(60);

/// A private, read-only mapping of a whole file, as git, linkers and checksum tools make it.
struct PrivateMapping {
    address: *mut libc::c_void,
    length: usize,
}

// SAFETY: nobody writes through the pointer, and it is valid until the drop.
unsafe impl Sync for PrivateMapping {}
// SAFETY: it belongs to the process, not to a thread.
unsafe impl Send for PrivateMapping {}

impl PrivateMapping {
    fn of(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let length = usize::try_from(file.metadata()?.len())?;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        ensure!(
            address != libc::MAP_FAILED,
            "mmap: {}",
            std::io::Error::last_os_error()
        );
        Ok(Self { address, length })
    }

    /// Whether the mapping has these bytes.
    fn has(&self, bytes: &[u8]) -> bool {
        // SAFETY: as many bytes as are mapped. The kernel may change them meanwhile, hence no slice of them is made.
        bytes.len() == self.length
            && unsafe { libc::memcmp(self.address, bytes.as_ptr().cast(), self.length) } == 0
    }
}

impl Drop for PrivateMapping {
    fn drop(&mut self) {
        // SAFETY: it is our own mapping, and there is no pointer into it any more.
        unsafe { libc::munmap(self.address, self.length) };
    }
}

/// A copy of a program, and the contents of its file.
struct Program {
    dir: tempfile::TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    blob: String,
}

/// What readers of the file have seen.
#[derive(Debug, Default)]
struct Seen {
    /// How often they read it.
    readings: usize,
    /// How often a mapping differed from the file.
    mappings: usize,
    /// How often git computed another blob.
    blobs: usize,
}

impl Program {
    fn new() -> Result<Self> {
        let built = Variant::Plain.build(&toolchain::newest()?, "family")?;
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("program");
        std::fs::copy(&built, &path)?;
        let bytes = std::fs::read(&path)?;
        let blob = blob_of(&path)?;
        let init = Command::new("git")
            .args(["init", "-q"])
            .arg(dir.path())
            .status()?;
        ensure!(init.success(), "git init: {init}");
        Ok(Self {
            dir,
            path,
            bytes,
            blob,
        })
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Calls `what`, and has the file read by others all the while.
    fn while_read<T>(&self, what: impl FnOnce() -> Result<T>) -> Result<(T, Seen)> {
        let stop = AtomicBool::new(false);
        let (done, seen) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| self.read_until(&stop));
            let done = what();
            stop.store(true, Ordering::Relaxed);
            (done, reader.join())
        });
        let seen = seen.ok().context("the reader has panicked")??;
        let done = done.with_context(|| format!("{seen:?}"))?;
        ensure!(
            seen.readings > 10,
            "too few readings, which prove nothing: {seen:?}"
        );
        println!("{seen:?}");
        // What git stores must be what the file has.
        let add = Command::new("git")
            .arg("-C")
            .arg(self.dir.path())
            .args(["add", "program"])
            .status()?;
        ensure!(add.success(), "git add: {add}");
        Ok((done, seen))
    }

    fn read_until(&self, stop: &AtomicBool) -> Result<Seen> {
        // One mapping that exists before any probe, and new ones.
        let old = PrivateMapping::of(&self.path)?;
        let mut seen = Seen::default();
        while !stop.load(Ordering::Relaxed) {
            let new = PrivateMapping::of(&self.path)?;
            let same = old.has(&self.bytes) && new.has(&self.bytes);
            seen.mappings += usize::from(!same);
            if seen.readings.is_multiple_of(16) {
                seen.blobs += usize::from(blob_of(&self.path)? != self.blob);
            }
            seen.readings += 1;
        }
        Ok(seen)
    }

    /// Starts the program this many times from a shell, which does not read it.
    fn start(&self, times: usize) -> Result<()> {
        for _ in 0..times {
            let line = format!("{} exit 0; true", self.path.display());
            let status = Command::new("/bin/sh")
                .args(["-c", &line])
                .stdout(Stdio::null())
                .status()?;
            ensure!(status.success(), "{status}");
        }
        Ok(())
    }
}

/// The blob id that git computes for a file, which it maps.
fn blob_of(path: &Path) -> Result<String> {
    let output = Command::new("git").arg("hash-object").arg(path).output()?;
    ensure!(output.status.success(), "git hash-object: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn undisturbed(seen: &Seen) -> Result<()> {
    ensure!(
        seen.mappings == 0 && seen.blobs == 0,
        "others saw breakpoints in the file: {seen:?}"
    );
    Ok(())
}

/// A gmpscope that waits for starts; killed on drop.
struct Next(Child);

impl Next {
    fn wait_for(program: &Program, starts: usize, options: &[&str]) -> Result<Self> {
        let mut child = Command::new(environment::gmpscope()?)
            .args(["attach", "--format", "json", "--duration", "20s", "--next"])
            .arg(starts.to_string())
            .arg("--exe")
            .arg(&program.path)
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stderr = BufReader::new(child.stderr.take().context("no stderr")?);
        let next = Self(child);
        let mut line = String::new();
        stderr.read_line(&mut line)?;
        ensure!(line.starts_with("attached:"), "{line}");
        Ok(next)
    }

    fn capture(mut self) -> Result<Capture> {
        let stdout = self.0.stdout.take().context("no stdout")?;
        Ok(serde_json::from_reader(BufReader::new(stdout))?)
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nobody_sees_probes_of_a_run() -> Result<()> {
    let _one = machine();
    let program = Program::new()?;
    for options in [&[][..], &["--mode", "exact"], &["--mode", "full"]] {
        let traced = Traced::new(&program.path)?.options(options);
        let traced = traced.arg("sleep").arg("700");
        let (ran, seen) = program.while_read(|| traced.run())?;
        ensure!(ran.init()?.runs == 1, "{options:?}: {}", ran.stderr);
        undisturbed(&seen).with_context(|| format!("{options:?}"))?;
    }
    Ok(())
}

#[test]
fn nobody_sees_probes_of_repeated_runs() -> Result<()> {
    let _one = machine();
    let program = Program::new()?;
    let traced = Traced::new(&program.path)?.options(&["--repeat", "5"]);
    let (ran, seen) = program.while_read(|| traced.arg("sleep").arg("100").run())?;
    ensure!(ran.init()?.runs == 5, "{}", ran.stderr);
    undisturbed(&seen)
}

#[test]
fn nobody_sees_probes_of_what_is_followed() -> Result<()> {
    let _one = machine();
    let program = Program::new()?;
    let script = format!("for i in 1 2 3 4 5; do {} sleep 50; done", program.shown());
    for perf_events in [false, true] {
        let mut traced = Traced::new(Path::new("/bin/sh"))?.options(&["--follow"]);
        if perf_events {
            traced = traced.env("GMPSCOPE_PERF_EVENTS", "1");
        }
        let (ran, seen) = program.while_read(|| traced.arg("-c").arg(&script).run())?;
        let init = ran.init()?;
        let counts = format!(
            "perf events: {perf_events}: {} runs, {} missed",
            init.runs, init.missed
        );
        match perf_events {
            // A link takes 16 perf events, opened one by one: on a busy machine a start may time out.
            true => ensure!(init.runs > 0 && init.runs + init.missed == 5, "{counts}"),
            false => ensure!(init.runs == 5 && init.missed == 0, "{counts}"),
        }
        undisturbed(&seen).with_context(|| format!("perf events: {perf_events}"))?;
    }
    Ok(())
}

#[test]
fn nobody_sees_probes_of_the_next_starts() -> Result<()> {
    let _one = machine();
    let program = Program::new()?;
    let (capture, seen) = program.while_read(|| {
        let next = Next::wait_for(&program, 4, &[])?;
        program.start(4)?;
        next.capture()
    })?;
    let init = capture.init.context("no starts")?;
    ensure!(
        init.runs == 4 && init.missed == 0 && capture.capture.complete,
        "{} runs, {} missed: {:#?}",
        init.runs,
        init.missed,
        capture.capture.notes
    );
    undisturbed(&seen)
}

/// Shows that the tests here can fail: breakpoints are seen where they are asked for.
#[test]
fn the_whole_binary_is_probed_only_where_that_is_asked_for() -> Result<()> {
    let _one = machine();
    let program = Program::new()?;
    let (capture, seen) = program.while_read(|| {
        let next = Next::wait_for(&program, 2, &["--whole-binary"])?;
        ensure!(blob_of(&program.path)? != program.blob, "git sees no breakpoint");
        std::thread::sleep(Duration::from_millis(200));
        program.start(2)?;
        next.capture()
    })?;
    ensure!(capture.init.is_some_and(|init| init.runs == 2));
    ensure!(seen.mappings > 0, "{seen:?}");
    Ok(())
}

#[test]
fn a_parent_that_maps_the_program_it_starts_sees_no_probes_and_the_start_counts_as_missed() -> Result<()> {
    let _one = machine();
    let program = Program::new()?;
    let (capture, seen) = program.while_read(|| {
        let next = Next::wait_for(&program, 1, &[])?;
        // posix_spawn: until its execve the child runs in the memory of this test, where the mappings are.
        let status = Command::new(&program.path).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{status}");
        program.start(1)?;
        next.capture()
    })?;
    let init = capture.init.context("no starts")?;
    ensure!(
        init.runs == 1 && init.missed == 1,
        "{} runs, {} missed",
        init.runs,
        init.missed
    );
    ensure!(
        !capture.capture.complete
            && capture
                .capture
                .notes
                .iter()
                .any(|note| note.raw().contains("not traced")),
        "{:#?}",
        capture.capture
    );
    undisturbed(&seen)
}

#[test]
fn a_start_by_a_thread_that_is_not_the_first_is_seen() -> Result<()> {
    let _one = machine();
    let program = Program::new()?;
    let shown = program.shown();
    let next = Next::wait_for(&program, 2, &[])?;
    let line = format!("{shown} thread {shown} exit 0; true");
    let status = Command::new("/bin/sh")
        .args(["-c", &line])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "{status}");
    let capture = next.capture()?;
    let init = capture.init.context("no starts")?;
    ensure!(
        init.runs == 2 && init.missed == 0,
        "{} runs, {} missed",
        init.runs,
        init.missed
    );
    ensure!(init.starts[0].pid == init.starts[1].pid, "{:#?}", init.starts);
    // The same with --follow.
    let traced = Traced::new(&program.path)?.options(&["--follow"]);
    let ran = ["thread", &shown, "exit", "3"]
        .into_iter()
        .fold(traced, Traced::arg)
        .run()?;
    ensure!(ran.status.code() == Some(3), "{}", ran.stderr);
    let init = ran.init()?;
    ensure!(init.runs == 2, "{} runs, {} missed", init.runs, init.missed);
    Ok(())
}

#[test]
fn a_file_that_was_changed_is_not_probed_any_more() -> Result<()> {
    let _one = machine();
    let program = Program::new()?;
    let next = Next::wait_for(&program, 1, &[])?;
    let other = Variant::Stripped.build(&toolchain::newest()?, "family")?;
    // Into the same inode.
    std::fs::write(&program.path, std::fs::read(other)?)?;
    program.start(2)?;
    // SAFETY: takes two numbers; the child is not yet waited for.
    unsafe { libc::kill(next.0.id() as i32, libc::SIGINT) };
    let capture = next.capture()?;
    let missed = capture.init.as_ref().map_or(0, |init| init.missed);
    ensure!(missed == 2 && !capture.capture.complete, "{capture:#?}");
    Ok(())
}

#[test]
fn nobody_sees_probes_of_the_daemon() -> Result<()> {
    let _one = machine();
    for whole in [false, true] {
        let program = Program::new()?;
        let shown = program.shown();
        let config = format!("init.include = [{shown:?}]\ninit.whole_binary = {whole}\n");
        let ((), seen) = program.while_read(|| {
            let daemon = Daemon::start(&config)?;
            let count = |page: &gmpscope_tests::exposition::Exposition, result: &str| {
                let labels = [("exe", shown.as_str()), ("result", result)];
                page.find("gmpscope_starts_total", &labels)
                    .next()
                    .map(|sample| sample.value)
            };
            daemon.wait_for("that its starts are timed", |page| count(page, "completed"))?;
            program.start(4)?;
            daemon.wait_for("four starts", |page| {
                (count(page, "completed")? == 4.0).then_some(())
            })?;
            let missed = count(&daemon.metrics()?, "missed");
            ensure!(missed == Some(0.0), "{missed:?}: {}", daemon.log());
            until("the links of ended starts are gone", PATIENCE, || {
                Ok(daemon.holds()?.links() < 8)
            })
        })?;
        match whole {
            true => ensure!(seen.mappings > 0, "this test cannot fail: {seen:?}"),
            false => undisturbed(&seen)?,
        }
    }
    Ok(())
}
