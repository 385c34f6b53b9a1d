//! Captures a program and its twin, and looks at what the rules say of both.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tracer_user::document::capture::Capture;
use tracer_user::findings::Severity;

use super::scenes::Scene;
use super::side::{Side, Threads};
use crate::run::gmpscope_with;
use crate::surroundings::{Cpus, Group, Hog, Placement};
use crate::{Variant, Workload, toolchain};

/// How long a program runs before it is captured: so that its heap is there, and its threads.
const SETTLED: Duration = Duration::from_millis(400);
/// The window where everything is seen, and where it is estimated from samples.
const WINDOW: Duration = Duration::from_millis(800);
const WINDOW_OF_SAMPLES: Duration = Duration::from_millis(2_000);
/// How often the gauges are read.
const READINGS: &str = "50ms";
/// Threads that a program may still make where its limit is near.
const SPARE: u64 = 4;

/// What one rule says of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It fires, so much of a matter, with this evidence.
    Fires(Severity, String),
    /// It does not.
    Silent,
    /// It cannot be decided.
    Undecided(String),
}

/// What one rule says of a program and of its twin.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The rule.
    pub rule: &'static str,
    /// Of the program with the pathology.
    pub workload: Said,
    /// Of the one without.
    pub twin: Said,
}

impl Compared {
    /// Whether it fires on the program.
    pub fn fires(&self) -> bool {
        matches!(self.workload, Said::Fires(..))
    }

    /// Whether it is silent on the twin, or finds it less of a matter: on a machine that does other things as well, a stop
    /// of the world may take some milliseconds.
    pub fn spares_the_twin(&self) -> bool {
        match (&self.workload, &self.twin) {
            (Said::Fires(severity, _), Said::Fires(of_twin, _)) => of_twin < severity,
            (_, twin) => *twin == Said::Silent,
        }
    }
}

impl Said {
    fn by(rule: &str, capture: &Capture) -> Self {
        let finding = capture.findings.iter().find(|finding| finding.id == *rule);
        let undecided = capture.undecided.iter().find(|undecided| undecided.id == *rule);
        match (finding, undecided) {
            (Some(finding), _) => Self::Fires(finding.severity, finding.evidence.to_string()),
            (None, Some(undecided)) => Self::Undecided(undecided.what.to_string()),
            (None, None) => Self::Silent,
        }
    }
}

/// Captures both sides of a scene.
///
/// # Errors
/// A program could not be started or captured, or the capture is not complete.
pub fn compare(scene: &Scene) -> Result<Vec<Compared>> {
    let (workload, twin) = match scene.at_once {
        true => std::thread::scope(|scope| {
            let twin = scope.spawn(|| captured(scene, &scene.twin));
            let workload = captured(scene, &scene.workload);
            let twin = match twin.join() {
                Ok(captured) => captured,
                Err(_) => Err(anyhow!("{}: the twin panicked", scene.name)),
            };
            (workload, twin)
        }),
        false => (captured(scene, &scene.workload), captured(scene, &scene.twin)),
    };
    let (workload, twin) = (workload?, twin?);
    let rules = scene.rules.iter().map(|&rule| Compared {
        rule,
        workload: Said::by(rule, &workload),
        twin: Said::by(rule, &twin),
    });
    Ok(rules.collect())
}

fn captured(scene: &Scene, side: &Side) -> Result<Capture> {
    run(scene.mode, side).with_context(|| format!("{}: {}", scene.name, side.what))
}

fn run(mode: &str, side: &Side) -> Result<Capture> {
    // Dropped after the program, which must have left it.
    let quota = side.quota.map(Group::with_quota).transpose()?;
    let limited = (side.threads != Threads::Unlimited)
        .then(|| Group::new("pids"))
        .transpose()?;
    let placement = Placement {
        cpu: side.one_cpu.map_or(Ok(None), |_| Cpus::First.single())?,
        ..Placement::default()
    };
    let hogs = (0..side.one_cpu.unwrap_or(0)).map(|_| Hog::start(placement));
    let _hogs = hogs.collect::<Result<Vec<_>>>()?;
    let mut workload = Workload::start_by(command(side, placement)?)?;
    for group in quota.iter().chain(&limited) {
        group.add(workload.pid())?;
    }
    workload.go()?;
    sleep(SETTLED);
    if let Some(group) = &limited {
        let used = group.threads()?;
        group.limit_threads(match side.threads {
            Threads::Near => used + SPARE,
            Threads::Far | Threads::Unlimited => used * 10,
        })?;
    }
    capture(workload.pid(), mode)
}

fn command(side: &Side, placement: Placement<'_>) -> Result<Command> {
    let binary = Variant::Stripped.build(&toolchain::newest()?, "rules")?;
    let mut command = Command::new(binary);
    command
        .args(side.arguments)
        .arg("-control")
        .env("GOMAXPROCS", side.gomaxprocs)
        .env_remove("GODEBUG")
        // Where the scheduler prints its state.
        .stderr(Stdio::null());
    if let Some(godebug) = side.godebug {
        command.env("GODEBUG", godebug);
    }
    placement.apply(&mut command)?;
    Ok(command)
}

fn capture(pid: u32, mode: &str) -> Result<Capture> {
    let window = match mode {
        "passive" | "sampled" => WINDOW_OF_SAMPLES,
        _ => WINDOW,
    };
    let (pid, window) = (pid.to_string(), format!("{}ms", window.as_millis()));
    let outcome = gmpscope_with([
        "attach",
        "-p",
        pid.as_str(),
        "--mode",
        mode,
        "--format",
        "json",
        "--duration",
        window.as_str(),
        "--interval",
        READINGS,
    ])?;
    ensure!(
        outcome.code() == 0,
        "gmpscope ended with status {}. It said:\n{}",
        outcome.code(),
        outcome.stderr
    );
    let lines = outcome.json.unwrap_or_default();
    // Intervals come first.
    let line = lines.lines().last().context("gmpscope wrote nothing")?;
    serde_json::from_str(line).with_context(|| format!("not a capture: {line}"))
}
