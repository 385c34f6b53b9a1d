//! Runs other programs and shows a person what is running and how long it took.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::paths;

/// How many lines of a failed quiet command are shown.
const SHOWN_LINES: usize = 40;

/// Prints the line that begins a step.
pub fn title(what: &str) {
    println!("\n== {what}");
    flush();
}

/// Flushes standard output, which may be a file that someone is watching.
pub fn flush() {
    // If standard output is closed there is nowhere to report that.
    let _ = std::io::stdout().flush();
}

/// Runs a command and shows its output. It fails if the command fails.
pub fn run(what: &str, command: &mut Command) -> Result<()> {
    title(what);
    let began = Instant::now();
    let status = spawn(command.stdin(Stdio::null()))?.wait()?;
    check(what, command, status)?;
    println!("   {what}: {}", seconds(began.elapsed()));
    Ok(())
}

/// Runs a command and shows its output only if it fails; meanwhile it shows the time that has passed.
pub fn run_quietly(what: &str, command: &mut Command) -> Result<()> {
    let logs = paths::target().join("xtask-logs");
    fs::create_dir_all(&logs).with_context(|| format!("creating {}", logs.display()))?;
    let name: String = what
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let log = logs.join(format!("{name}.log"));
    let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);

    print!("   {what} ...");
    std::io::stdout().flush()?;
    let began = Instant::now();
    let mut child = spawn(command)?;
    let terminal = std::io::stdout().is_terminal();
    // A log cannot overwrite its line, so it gets fewer updates.
    let every = Duration::from_secs(if terminal { 1 } else { 30 });
    let mut next = every;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() >= next {
            next += every;
            match terminal {
                true => print!("\r   {what} ... {}", seconds(began.elapsed())),
                false => print!(" {}", seconds(began.elapsed())),
            }
            std::io::stdout().flush()?;
        }
        thread::sleep(Duration::from_millis(20));
    };
    println!(
        "{} {}",
        if terminal {
            format!("\r   {what} ...")
        } else {
            String::new()
        },
        seconds(began.elapsed())
    );
    if !status.success() {
        print_tail(&log);
    }
    check(what, command, status)
}

/// Runs a command and returns its standard output.
///
/// # Errors
/// The command failed; the error has its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line as one would type it, with the variables that are set for it, but not those that are removed.
pub fn command_line(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        Some(format!(
            "{}='{}'",
            name.to_string_lossy(),
            value?.to_string_lossy()
        ))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| match word.to_string_lossy() {
        plain if !plain.contains([' ', '*', '$', '"']) => plain.into_owned(),
        special => format!("'{special}'"),
    });
    set.chain(words).collect::<Vec<_>>().join(" ")
}

/// A duration for people: `12.3 s` or `4 min 05 s`.
pub fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

fn spawn(command: &mut Command) -> Result<std::process::Child> {
    command
        .spawn()
        .with_context(|| format!("starting {:?}", command.get_program()))
}

fn check(what: &str, command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!(
            "{what} failed ({status}). The command was:\n  {}",
            command_line(command)
        );
    }
    Ok(())
}

fn print_tail(log: &Path) {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(SHOWN_LINES);
    for line in lines.iter().skip(first) {
        eprintln!("   | {line}");
    }
    eprintln!("   (all of it: {})", log.display());
}
