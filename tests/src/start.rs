//! Runs `gmpscope run` and `gmpscope attach --next`, and reads what a program reports about its own start.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tracer_user::document::capture::Capture;
use tracer_user::document::init::{Init, Run};

use crate::environment::gmpscope;

/// The command line of a `gmpscope run`.
#[derive(Debug)]
pub struct Traced {
    command: Command,
    program: PathBuf,
    arguments: Vec<String>,
    options: Vec<String>,
    result: PathBuf,
    _dir: TempDir,
}

/// The results of a finished run.
#[derive(Debug)]
pub struct Ran {
    /// The exit status.
    pub status: ExitStatus,
    /// Standard output of the command.
    pub stdout: String,
    /// Standard error of the command and of gmpscope.
    pub stderr: String,
    /// The capture.
    pub capture: Option<Capture>,
}

impl Traced {
    /// Runs this program.
    pub fn new(program: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(gmpscope()?);
        command.stdin(Stdio::null()).env_remove("GODEBUG");
        Ok(Self {
            command,
            program: program.to_owned(),
            arguments: Vec::new(),
            options: Vec::new(),
            result: dir.path().join("capture.json"),
            _dir: dir,
        })
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Adds options of gmpscope.
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(ToString::to_string));
        self
    }

    /// Adds an argument of the program.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Returns the command line, for something else to run.
    pub fn command_line(&self) -> Vec<String> {
        let mut line = vec![self.command.get_program().to_string_lossy().into_owned()];
        line.extend(["run", "--format", "json", "-o"].map(str::to_owned));
        line.push(self.result.display().to_string());
        line.extend(self.options.iter().cloned());
        line.push("--".to_owned());
        line.push(self.program.display().to_string());
        line.extend(self.arguments.iter().cloned());
        line
    }

    /// Runs it to its end.
    pub fn run(self) -> Result<Ran> {
        self.run_by(&[])
    }

    /// Like [`Self::run`], by another command in front.
    pub fn run_by(mut self, before: &[&str]) -> Result<Ran> {
        let mut line: Vec<String> = before.iter().map(ToString::to_string).collect();
        line.extend(self.command_line());
        let environment: Vec<_> = self
            .command
            .get_envs()
            .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)))
            .collect();
        let folder = self.command.get_current_dir().map(Path::to_owned);
        self.command = Command::new(line.first().context("no command")?);
        if let Some(folder) = folder {
            self.command.current_dir(folder);
        }
        self.command.args(&line[1..]).stdin(Stdio::null());
        for (name, value) in environment {
            match value {
                Some(value) => self.command.env(name, value),
                None => self.command.env_remove(name),
            };
        }
        let output = self.command.output()?;
        let mut ran = self.read(
            output.status,
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )?;
        ran.stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(ran)
    }

    /// Reads the results, given the exit status and what the command wrote.
    ///
    /// # Errors
    /// The capture is invalid.
    pub fn read(self, status: ExitStatus, stdout: String) -> Result<Ran> {
        let capture = match std::fs::read_to_string(&self.result) {
            Ok(json) => {
                let last = json.lines().last().unwrap_or_default();
                Some(serde_json::from_str(last).with_context(|| format!("no capture: {json}"))?)
            }
            Err(_) => None,
        };
        Ok(Ran {
            status,
            stdout,
            stderr: String::new(),
            capture,
        })
    }
}

impl Ran {
    /// Returns the starts of the capture.
    pub fn init(&self) -> Result<&Init> {
        self.capture
            .as_ref()
            .and_then(|capture| capture.init.as_ref())
            .with_context(|| format!("nothing was captured ({}):\n{}", self.status, self.stderr))
    }

    /// Returns the only start.
    pub fn start(&self) -> Result<&Run> {
        self.init()?
            .run
            .as_ref()
            .with_context(|| format!("no start was seen:\n{}", self.stderr))
    }

    /// Returns (title, evidence) of the findings.
    pub fn findings(&self) -> Vec<(String, String)> {
        let findings = self.capture.iter().flat_map(|capture| &capture.findings);
        findings
            .map(|finding| (finding.title.to_string(), finding.evidence.to_string()))
            .collect()
    }

    /// Returns (process, time) of the workload's lines that begin with this word.
    pub fn said(&self, word: &str) -> Vec<(u32, u64)> {
        let lines = self.stdout.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(word)).then_some(())?;
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        });
        lines.collect()
    }
}

/// Checks that the phases are a partition: no gap, no overlap, and together the whole.
///
/// # Errors
/// They are not a partition.
pub fn partition(run: &Run) -> Result<()> {
    let mut at = 0;
    for phase in &run.phases {
        ensure!(
            phase.start_ns == at,
            "{} begins at {}, not {at}",
            phase.name,
            phase.start_ns
        );
        at += phase.duration_ns;
    }
    ensure!(
        at == run.duration_ns,
        "the phases end at {at}, not {}",
        run.duration_ns
    );
    Ok(())
}

/// A line of `GODEBUG=inittrace=1`: the init of a package, as the runtime itself timed it.
#[derive(Clone, Debug, PartialEq)]
pub struct InitTrace {
    /// The package.
    pub package: String,
    /// Its time in nanoseconds, truncated as printed.
    pub clock_ns: f64,
    /// One unit of the last printed digit, in nanoseconds.
    pub digit_ns: f64,
}

/// Parses `init internal/bytealg @0.008 ms, 0.12 ms clock, 0 bytes, 0 allocs`.
pub fn init_traces(text: &str) -> Result<Vec<InitTrace>> {
    let lines = text
        .lines()
        .filter(|line| line.starts_with("init ") && line.contains(" ms clock"));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, package, _, _, clock, "ms", ..] = words.as_slice() else {
                bail!("not a line of inittrace: {line}");
            };
            // mgc.go, fmtNSAsMS: `0` is printed below a microsecond, whole milliseconds from ten on.
            if *clock == "0" {
                return Ok(InitTrace {
                    package: (*package).to_owned(),
                    clock_ns: 0.0,
                    digit_ns: 1e3,
                });
            }
            let decimals = clock.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            Ok(InitTrace {
                package: (*package).to_owned(),
                clock_ns: clock.parse::<f64>()? * 1e6,
                digit_ns: 1e6 / 10f64.powi(i32::try_from(decimals)?),
            })
        })
        .collect()
}

/// Waits for a line on a pipe, for at most this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_inittrace_says_how_exact_it_is() {
        let text = "init internal/bytealg @0.008 ms, 0 ms clock, 0 bytes, 0 allocs\n\
                    init os @1.2 ms, 0.063 ms clock, 1 bytes, 2 allocs\nother\n\
                    init main @1.2 ms, 25 ms clock, 1 bytes, 2 allocs\n";
        let lines = init_traces(text).unwrap();
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0].clock_ns, lines[0].digit_ns), (0.0, 1e3));
        assert_eq!((lines[2].clock_ns, lines[2].digit_ns), (25e6, 1e6));
        assert_eq!(
            (lines[1].package.as_str(), lines[1].clock_ns, lines[1].digit_ns),
            ("os", 63_000.0, 1_000.0)
        );
    }
}
