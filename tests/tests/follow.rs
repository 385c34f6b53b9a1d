//! `run --follow`: the Go programs that a command starts in turn, compared with what they report themselves.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gmpscope_tests::privilege::{CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, become_user};
use gmpscope_tests::start::{Ran, Traced, partition};
use gmpscope_tests::unread::until;
use gmpscope_tests::{Variant, environment, machine, toolchain};
use tracer_user::document::followed::TreeOf;
use tracer_user::model::start::TimesFrom;

const PROGRAM: &str = "family";
/// How long anything here may take on a machine where other tests compile.
const PATIENCE: Duration = Duration::from_secs(60);

fn built(variant: Variant) -> Result<String> {
    let binary = variant.build(&toolchain::newest()?, PROGRAM)?;
    Ok(binary.display().to_string())
}

/// `gmpscope run --follow` of a command of these words.
fn followed(words: &[&str]) -> Result<Traced> {
    let (program, arguments) = words.split_first().context("no command")?;
    let traced = Traced::new(Path::new(program))?.options(&["--follow"]);
    Ok(arguments.iter().fold(traced, |traced, word| traced.arg(word)))
}

fn tree(ran: &Ran) -> Result<&TreeOf> {
    ran.init()?.tree.as_ref().context("no tree in the capture")
}

/// Checks that exactly the starts that the programs themselves report were seen, and that nothing is missing.
fn all_seen(ran: &Ran) -> Result<()> {
    let init = ran.init()?;
    let mut reported: Vec<u32> = ran.said("main").iter().map(|(pid, _)| *pid).collect();
    let mut seen: Vec<u32> = init.starts.iter().map(|start| start.pid).collect();
    reported.sort_unstable();
    seen.sort_unstable();
    ensure!(
        reported == seen,
        "reported {reported:?}, seen {seen:?}: {:#?}",
        init.tree
    );
    ensure!(
        init.unfinished == 0 && init.runs == reported.len() as u64,
        "{init:#?}"
    );
    let capture = &ran.capture.as_ref().context("no capture")?.capture;
    ensure!(capture.complete && capture.lost_events == 0, "{capture:#?}");
    let tree = tree(ran)?;
    ensure!(tree.unseen == 0 && tree.ended_early == 0, "{tree:#?}");
    for run in &init.slowest {
        partition(run)?;
        ensure!(run.exe.is_some() && run.t0 == TimesFrom::Execve, "{run:#?}");
    }
    // The last mark comes before the first line of main.
    for (pid, said_ns) in ran.said("main") {
        let before = init
            .starts
            .iter()
            .any(|start| start.pid == pid && start.t0_ns + start.duration_ns <= said_ns);
        ensure!(before, "process {pid} said main at {said_ns}: {:#?}", init.starts);
    }
    Ok(())
}

#[test]
fn children_of_every_build_are_seen() -> Result<()> {
    let _one = machine();
    let parent = built(Variant::Plain)?;
    let mut variants = vec![Variant::Plain, Variant::Pie, Variant::Cgo, Variant::Stripped];
    if environment::full() {
        variants.extend([Variant::PieStripped, Variant::CgoPie]);
    }
    for variant in variants {
        let child = built(variant)?;
        let ran = followed(&[&parent, "many", "8", &child, "exit", "0"])?.run()?;
        ensure!(ran.status.success(), "{}: {}", variant.name(), ran.stderr);
        all_seen(&ran).context(variant.name())?;
        let init = ran.init()?;
        ensure!(init.runs == 9, "{}: {init:#?}", variant.name());
        let of_child = init
            .binaries
            .iter()
            .find(|binary| binary.exe == child)
            .with_context(|| format!("no {child}: {:#?}", init.binaries))?;
        let expected = if child == parent { 9 } else { 8 };
        let total = of_child.total().context("no histogram of whole starts")?;
        ensure!(
            of_child.runs == expected && total.count == expected,
            "{}: {of_child:#?}",
            variant.name()
        );
        let loads = !matches!(variant, Variant::Plain | Variant::Stripped);
        ensure!(
            of_child.histograms.contains_key(&"loader".into()) == loads,
            "{}: {:?}",
            variant.name(),
            of_child.histograms.keys()
        );
        ensure!(
            of_child.histograms.contains_key(&"init:runtime".into()),
            "{}: {:?}",
            variant.name(),
            of_child.histograms.keys()
        );
        // Each start is held until it is probed, which is reported and is in no phase.
        let held: Vec<u64> = init.starts.iter().map(|start| start.held_ns).collect();
        ensure!(held.iter().all(|ns| *ns > 0), "{held:?}");
    }
    Ok(())
}

#[test]
fn a_shell_and_grandchildren_are_followed() -> Result<()> {
    let _one = machine();
    let family = built(Variant::Plain)?;
    let pie = built(Variant::Pie)?;
    let script = format!("{family}; /bin/true; {family} run /bin/sh -c '{pie} run {family} run /bin/true'");
    let ran = followed(&["/bin/sh", "-c", &script])?.run()?;
    ensure!(ran.status.success(), "{}", ran.stderr);
    all_seen(&ran)?;
    ensure!(ran.init()?.runs == 4, "{:#?}", ran.init()?);
    // Two shells and two of true; one of the shells may have replaced itself.
    let tree = tree(&ran)?;
    ensure!(tree.others == 4 && tree.execs == 8, "{tree:#?}");
    let target = &ran.capture.as_ref().context("no capture")?.target;
    ensure!(
        target.exe == "/bin/sh" && target.go_version.is_empty(),
        "{target:#?}"
    );
    Ok(())
}

#[test]
fn a_program_that_executes_others_in_its_place_is_seen_each_time() -> Result<()> {
    let _one = machine();
    let (family, pie) = (built(Variant::Plain)?, built(Variant::Pie)?);
    let ran = followed(&[&family, "exec", &pie, "exec", &family, "exec", &pie, "exit", "3"])?.run()?;
    ensure!(ran.status.code() == Some(3), "{} {}", ran.status, ran.stderr);
    all_seen(&ran)?;
    let init = ran.init()?;
    let exes: Vec<_> = init
        .starts
        .iter()
        .filter_map(|start| start.exe.as_ref().map(|exe| exe.raw()))
        .collect();
    ensure!(exes == [&family, &pie, &family, &pie], "{exes:?}");
    ensure!(init.starts.iter().all(|start| start.pid == init.starts[0].pid));
    Ok(())
}

#[test]
fn an_interpreter_that_is_a_go_program_is_seen() -> Result<()> {
    let _one = machine();
    let dir = tempfile::tempdir()?;
    for variant in [Variant::Plain, Variant::Pie] {
        let family = built(variant)?;
        let script = dir.path().join(variant.name());
        // It takes the script's path for a number, and fails; only its start counts.
        std::fs::write(&script, format!("#!{family} sleep\n"))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        let line = format!("{} || true", script.display());
        let ran = followed(&["/bin/sh", "-c", &line])?.run()?;
        ensure!(ran.said("main").len() == 1, "{} {}", ran.stdout, ran.stderr);
        all_seen(&ran)?;
    }
    Ok(())
}

#[test]
fn several_runs_are_one_capture() -> Result<()> {
    let _one = machine();
    let family = built(Variant::Plain)?;
    let ran = followed(&[&family, "run", &family, "exit", "0"])?
        .options(&["--repeat", "3"])
        .run()?;
    ensure!(ran.status.success(), "{}", ran.stderr);
    all_seen(&ran)?;
    ensure!(ran.init()?.runs == 6, "{:#?}", ran.init()?);
    Ok(())
}

#[test]
fn starts_of_others_are_not_seen() -> Result<()> {
    let _one = machine();
    let family = built(Variant::Plain)?;
    let mut traced = background(followed(&[&family, "many", "4", &family, "sleep", "700"])?)?;
    let mut others = 0;
    while traced.try_wait()?.is_none() {
        let status = Command::new(&family).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{status}");
        others += 1;
    }
    let ran = traced.ran()?;
    ensure!(others > 3, "only {others} others ran meanwhile");
    all_seen(&ran)?;
    ensure!(ran.init()?.runs == 5, "{:#?}", ran.init()?);
    ensure!(tree(&ran)?.execs_of_others > 0, "{:#?}", tree(&ran)?);
    Ok(())
}

#[test]
fn what_outlives_the_command_is_counted() -> Result<()> {
    let _one = machine();
    let family = built(Variant::Plain)?;
    let script = format!("{family} sleep 5000 > /dev/null 2>&1 & {family}; {family} sleep 300");
    let begun = Instant::now();
    let ran = followed(&["/bin/sh", "-c", &script])?.run()?;
    ensure!(ran.status.success(), "{}", ran.stderr);
    ensure!(
        begun.elapsed() < Duration::from_millis(4_500),
        "it was waited for"
    );
    ensure!(tree(&ran)?.outlived == 1, "{:#?}", tree(&ran)?);
    ensure!(ran.init()?.runs == 3, "{:#?}", ran.init()?);
    Ok(())
}

#[test]
fn a_file_that_is_overwritten_runs_with_its_new_content() -> Result<()> {
    let _one = machine();
    let dir = tempfile::tempdir()?;
    let place = dir.path().join("program").display().to_string();
    let (family, stripped) = (built(Variant::Plain)?, built(Variant::Stripped)?);
    // Into the same inode: probes of one program would be anywhere in the other.
    let script = format!(
        "cp {family} {place} && {place} exit 0 && cat {stripped} > {place} && {place} exit 0 && \
         cat /bin/true > {place} && {place} && cat {family} > {place} && {place} exit 7"
    );
    let ran = followed(&["/bin/sh", "-c", &script])?.run()?;
    ensure!(ran.status.code() == Some(7), "{} {}", ran.status, ran.stderr);
    all_seen(&ran)?;
    let binaries = &ran.init()?.binaries;
    let stripped = binaries.iter().filter(|binary| binary.exe == place).count();
    ensure!(stripped == 3, "{binaries:#?}");
    Ok(())
}

#[test]
fn intervals_list_each_program_separately() -> Result<()> {
    let _one = machine();
    let (family, pie) = (built(Variant::Plain)?, built(Variant::Pie)?);
    let dir = tempfile::tempdir()?;
    let output = dir.path().join("starts.json");
    let script = format!("for i in 1 2 3 4; do {family} sleep 100; {pie} sleep 100; done");
    let status = Command::new(environment::gmpscope()?)
        .args(["run", "--follow", "--interval", "150ms", "--format", "json", "-o"])
        .arg(&output)
        .args(["--", "/bin/sh", "-c", &script])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "{status}");
    let text = std::fs::read_to_string(&output)?;
    let mut runs: BTreeMap<String, u64> = BTreeMap::new();
    let mut intervals = 0;
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        if value["schema"] != "gmpscope.starts/1" {
            continue;
        }
        intervals += 1;
        ensure!(value.get("histograms").is_none(), "mixed: {value}");
        for binary in value["binaries"].as_array().into_iter().flatten() {
            let exe = binary["exe"].as_str().context("no exe")?;
            *runs.entry(exe.to_owned()).or_default() += binary["runs"].as_u64().context("no runs")?;
        }
    }
    ensure!(intervals > 2, "{intervals} intervals: {text}");
    ensure!(runs == BTreeMap::from([(family, 4), (pie, 4)]), "{runs:?}");
    Ok(())
}

/// A traced command that is running beside the test; killed on drop.
struct Background {
    child: Child,
    traced: Option<Traced>,
    stdout: tempfile::NamedTempFile,
}

fn background(traced: Traced) -> Result<Background> {
    let line = traced.command_line();
    let stdout = tempfile::NamedTempFile::new()?;
    let child = Command::new(&line[0])
        .args(&line[1..])
        .stdin(Stdio::null())
        .stdout(stdout.reopen()?)
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Background {
        child,
        traced: Some(traced),
        stdout,
    })
}

impl Background {
    fn said(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.stdout.path())?)
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill takes two numbers; the child is not yet waited for, so the pid is its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Waits until the command has printed this many lines.
    fn wait_for(&self, lines: usize) -> Result<()> {
        until("the command prints enough lines", PATIENCE, || {
            Ok(self.said()?.lines().count() >= lines)
        })
    }

    fn ran(mut self) -> Result<Ran> {
        let status = self.child.wait()?;
        let traced = self.traced.take().context("it was taken")?;
        traced.read(status, self.said()?)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.signal(libc::SIGCONT);
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A script that starts children one after the other, and prints `done` if each ended with its own status.
fn busy(family: &str, children: u32) -> String {
    format!(
        "i=0; while [ $i -lt {children} ]; do {family} exit 5; [ $? = 5 ] || exit 9; i=$((i+1)); done; echo done"
    )
}

#[test]
fn a_tracer_that_is_killed_leaves_everything_running() -> Result<()> {
    let _one = machine();
    let family = built(Variant::Plain)?;
    let mut traced = background(followed(&["/bin/sh", "-c", &busy(&family, 60)])?)?;
    traced.wait_for(10)?;
    traced.signal(libc::SIGKILL);
    traced.child.wait()?;
    until("the command ends", PATIENCE, || {
        Ok(traced.said()?.ends_with("done\n"))
    })?;
    ensure!(traced.said()?.lines().count() == 61, "{}", traced.said()?);
    Ok(())
}

#[test]
fn nobody_waits_for_a_tracer_that_the_terminal_has_stopped() -> Result<()> {
    let _one = machine();
    let family = built(Variant::Plain)?;
    let traced = background(followed(&["/bin/sh", "-c", &busy(&family, 400)])?)?;
    traced.wait_for(5)?;
    traced.signal(libc::SIGTSTP);
    let stat = format!("/proc/{}/stat", traced.child.id());
    until("gmpscope stops", PATIENCE, || {
        Ok(std::fs::read_to_string(&stat)?.contains(") T "))
    })?;
    // If gmpscope still held programs, an execve of this test would wait now.
    let status = Command::new(&family)
        .args(["exit", "4"])
        .stdout(Stdio::null())
        .spawn()?;
    let status = ended(status)?;
    ensure!(status.code() == Some(4), "{status}");
    traced.signal(libc::SIGCONT);
    until("gmpscope continues", PATIENCE, || {
        Ok(!std::fs::read_to_string(&stat)?.contains(") T "))
    })?;
    let ran = traced.ran()?;
    ensure!(
        ran.status.success() && ran.stdout.ends_with("done\n"),
        "{}",
        ran.status
    );
    ensure!(ran.init()?.runs > 5, "{:#?}", tree(&ran)?);
    Ok(())
}

fn ended(mut child: Child) -> Result<ExitStatus> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > end {
            bail!("a program that is not followed waits at the gate");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_missing_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let copy = dir.path().join("gmpscope");
    std::fs::copy(environment::gmpscope()?, &copy)?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(&copy);
    command.args(["run", "--follow", "--", "/bin/echo", "ran"]);
    let capabilities = [CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE]
        .iter()
        .fold(0, |set, n| set | 1 << n);
    become_user(&mut command, 65534, capabilities);
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(125), "{} {stderr}", output.status);
    ensure!(output.stdout.is_empty(), "the command was run");
    ensure!(
        stderr.contains("CAP_SYS_ADMIN") && stderr.contains("--follow"),
        "{stderr}"
    );
    Ok(())
}
