//! A process that executes other programs all the time is reported to have executed another program, not to lack a
//! runtime or some code.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use gmpscope_tests::run::gmpscope_with;
use gmpscope_tests::start::Traced;
use gmpscope_tests::{Attach, Daemon, Variant, machine, toolchain};
use tracer_user::stream::EndedBy;

/// A process that alternates between Go programs, of several Go versions and builds, and a shell.
struct Alternates {
    child: Child,
    programs: Vec<PathBuf>,
}

impl Alternates {
    fn programs() -> Result<Vec<PathBuf>> {
        let mut programs = Vec::new();
        for t in toolchain::selection()? {
            for variant in [Variant::Stripped, Variant::PieStripped] {
                programs.push(variant.build(&t, "alternates")?);
            }
        }
        Ok(programs)
    }

    /// Starts one that stays the same program for at most this many milliseconds.
    fn start(most: &str) -> Result<Self> {
        let programs = Self::programs()?;
        let child = Command::new(&programs[0])
            .args(["-most", most])
            .args(&programs)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { child, programs })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended: then nothing that is said about it proves anything.
    fn lives(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the workload itself has ended: {ended:?}");
        Ok(())
    }

    /// Fails unless everything that is said is true of a process that never ends.
    fn judge(&self, what: &str, code: i32, stderr: &str) -> Result<()> {
        let pid = self.pid();
        for line in stderr.lines() {
            let is_right = line.starts_with(&format!("attached: process {pid} "))
                || line.starts_with(&format!("gmpscope: process {pid} "))
                    && (line.contains(") executed another program while gmpscope looked at it")
                        || line.contains("/sh: is not a Go program")
                        || line.contains("/dash: is not a Go program")
                        || line.contains("/bash: is not a Go program"))
                || line
                    .starts_with("gmpscope: the process executed another program before the capture began");
            ensure!(is_right, "{what}: {line}\nin: {stderr}");
        }
        // It was captured to its end, up to its next execve, or not at all.
        ensure!([0, 3, 5].contains(&code), "{what}: status {code}: {stderr}");
        Ok(())
    }
}

impl Drop for Alternates {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn a_process_that_is_never_the_same_for_long() -> Result<()> {
    let _one = machine();
    let mut process = Alternates::start("60")?;
    let (mut captured, mut refused) = (0, 0);
    for round in 0..60 {
        let mode = ["auto", "passive", "exact", "full", "sampled"][round % 5];
        let attach = Attach::to(process.pid())
            .mode(mode)
            .duration(Duration::from_millis(20));
        let outcome = attach.run()?;
        process.lives()?;
        process.judge(
            &format!("attach in {mode}, round {round}"),
            outcome.code(),
            &outcome.stderr,
        )?;
        match outcome.code() {
            3 => refused += 1,
            _ => captured += 1,
        }
        if let Some(capture) = outcome.capture {
            let ended_by = capture.capture.ended_by;
            ensure!(
                [EndedBy::Duration, EndedBy::TargetExec].contains(&ended_by),
                "{mode}: {ended_by:?}"
            );
        }
    }
    for _ in 0..6 {
        let outcome = gmpscope_with(["inspect", &process.pid().to_string()])?;
        process.lives()?;
        process.judge("inspect", outcome.code(), &outcome.stderr)?;
    }
    ensure!(
        refused > 5,
        "{refused} refused, {captured} captured: too few to prove anything"
    );
    Ok(())
}

#[test]
fn a_command_that_executes_another_program_after_main() -> Result<()> {
    let _one = machine();
    let programs = Alternates::programs()?;
    for most in ["5", "10", "15", "20", "25", "30", "35", "40"] {
        // It ends by an execve that fails, after three others.
        let mut traced = Traced::new(&programs[0])?.options(&["--mode", "sampled", "--duration", "2s"]);
        traced = traced.arg("-most").arg(most);
        for program in [&programs[1], &programs[0]] {
            traced = traced.arg(&program.display().to_string());
        }
        let ran = traced.arg("/nonexistent").run()?;
        let notes: Vec<String> = ran
            .capture
            .iter()
            .flat_map(|capture| &capture.capture.notes)
            .map(ToString::to_string)
            .collect();
        for note in notes
            .iter()
            .filter(|note| note.contains("latencies were not traced"))
        {
            ensure!(
                note.contains("executed another program") || note.contains("ended"),
                "{note}\n{}",
                ran.stderr
            );
        }
        ensure!(
            !ran.stderr.contains("is not where the code says"),
            "{}",
            ran.stderr
        );
    }
    Ok(())
}

#[test]
fn the_daemon_says_nothing_wrong_of_it() -> Result<()> {
    let _one = machine();
    let processes: Vec<Alternates> = (0..4).map(|_| Alternates::start("4")).collect::<Result<_>>()?;
    let mut rules = String::new();
    for program in &processes[0].programs {
        rules += &format!(
            "[[target]]\nexe = \"{}\"\ntier = \"passive\"\n",
            program.display()
        );
    }
    let mut daemon = Daemon::start_with(&rules, |command| {
        // Examined at the moment of its execve, when that may go wrong.
        command.arg("-v").env("GMPSCOPE_DISCOVERY_SETTLE", "0s");
        Ok(())
    })?;
    for _ in 0..60 {
        let page = daemon.get("/targets")?;
        let page = page.text()?;
        ensure!(
            !page.contains("timeToRun")
                && !page.contains("anonymous memory")
                && !page.contains("does not execute"),
            "{page}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let (status, _) = daemon.stop()?;
    ensure!(status.success(), "{status}");
    let said = daemon.log();
    for wrong in [
        "is not where the code says",
        "anonymous memory",
        "does not execute",
        "timeToRun",
    ] {
        ensure!(!said.contains(wrong), "{wrong}: {said}");
    }
    Ok(())
}
