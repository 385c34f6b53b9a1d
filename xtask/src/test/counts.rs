//! How many tests `cargo test` ran, from the lines that it prints.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many passed.
    pub passed: u64,
    /// How many failed.
    pub failed: u64,
}

/// Runs `cargo test`, showing what it prints, and counts. It fails if tests could not be built or run.
pub fn run(cargo: &mut Command) -> Result<Counts> {
    run_naming(cargo).map(|(counts, _)| counts)
}

/// The same, with the names of the tests that failed.
pub fn run_naming(cargo: &mut Command) -> Result<(Counts, Vec<String>)> {
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo")?;
    let stdout = child.stdout.take().context("cargo's output has no pipe")?;
    let mut counts = Counts::default();
    let mut failed = Vec::new();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("reading cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        // A line at a time, also into a file: someone may be watching it.
        std::io::stdout().flush()?;
        let outcome = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "));
        if let Some((name, "FAILED")) = outcome {
            failed.push(name.to_owned());
        }
        if let Some(more) = parse(&line) {
            counts.passed += more.passed;
            counts.failed += more.failed;
        }
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        bail!("`cargo test` failed ({status}) although no test did: see above");
    }
    Ok((counts, failed))
}

/// `test result: ok. 12 passed; 0 failed; …`, the closing line of each test program.
fn parse(line: &str) -> Option<Counts> {
    let (_, numbers) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for part in numbers.split(';') {
        match part.trim().split_once(' ') {
            Some((n, "passed")) => counts.passed = n.parse().ok()?,
            Some((n, "failed")) => counts.failed = n.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_closing_line_of_a_test_program() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.20s";
        assert_eq!(
            parse(line),
            Some(Counts {
                passed: 12,
                failed: 3
            })
        );
        assert_eq!(parse("test target::elf::reads_a_header ... ok"), None);
        assert_eq!(parse("test result: ok"), None);
    }

    #[test]
    fn a_program_that_fails_without_a_failed_test_is_an_error() {
        let mut printed = Command::new("sh");
        printed.args([
            "-c",
            "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit $0",
        ]);
        assert_eq!(run(printed.arg("0")).unwrap(), Counts { passed: 2, failed: 0 });
        let mut failed = Command::new("sh");
        failed.args([
            "-c",
            "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit 101",
        ]);
        assert!(
            run(&mut failed)
                .unwrap_err()
                .to_string()
                .contains("although no test did")
        );
    }
}
