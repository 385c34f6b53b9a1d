//! The outcomes of all jobs, and the summary of them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::counts::Counts;
use crate::step;

/// How many of the slowest tests are listed.
const SLOWEST: usize = 10;

/// The outcome of one job.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The name of the job.
    pub name: String,
    /// The line of the summary that it belongs to.
    pub step: &'static str,
    /// Whether it ran tests: these are listed if they are slow.
    pub is_test: bool,
    /// How many checks or tests passed and failed.
    pub counts: Counts,
    /// From its start to its exit.
    pub took: Duration,
    /// CPU time.
    pub cpu: Duration,
    /// Why it failed.
    pub error: Option<String>,
}

impl Outcome {
    /// Counts a failure, whatever was counted before.
    pub fn fail(&mut self, why: String) {
        self.counts.failed += 1;
        self.error = Some(why);
    }
}

/// All outcomes, in the order in which the jobs finished.
#[derive(Debug)]
pub struct Report {
    began: Instant,
    outcomes: Vec<Outcome>,
    retried: Vec<Outcome>,
    /// Tests that measured times once more, with what they said.
    measured_again: Vec<String>,
}

impl Report {
    /// An empty report, whose clock starts now.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            outcomes: Vec::new(),
            retried: Vec::new(),
            measured_again: Vec::new(),
        }
    }

    /// Time since the report was created.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Adds an outcome that counts.
    pub fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// Adds a failure that does not count, since the test is run once more.
    pub fn add_retried(&mut self, outcome: Outcome) {
        self.retried.push(outcome);
    }

    /// Adds what a test has said about measuring times once more.
    pub fn add_measured_again(&mut self, test: &str, why: &str) {
        self.measured_again.push(format!("{test}: {why}"));
    }

    /// What tests have said about measuring times once more.
    pub fn measured_again(&self) -> &[String] {
        &self.measured_again
    }

    /// The sum of what passed and failed.
    pub fn counts(&self) -> Counts {
        sum(self.outcomes.iter())
    }

    /// The names of the tests that were run once more.
    pub fn retried(&self) -> Vec<&str> {
        self.retried.iter().map(|outcome| outcome.name.as_str()).collect()
    }

    /// Prints the summary, whose last line scripts look for.
    ///
    /// # Errors
    /// Something failed, or nothing was run.
    pub fn print(&self, steps: &[&'static str]) -> Result<()> {
        self.print_slowest();
        step::title(&format!("summary: {}", step::seconds(self.elapsed())));
        for step in steps {
            self.print_step(step);
        }
        for test in self.retried() {
            println!("   run again after a failure: {test}");
        }
        for test in self.measured_again() {
            println!("   measured times once more: {test}");
        }
        let all = self.counts();
        println!("\n{} passed, {} failed", all.passed, all.failed);
        if all.failed > 0 {
            bail!("{} of {} failed", all.failed, all.passed + all.failed);
        }
        if all.passed == 0 {
            bail!("no test was run");
        }
        Ok(())
    }

    fn print_slowest(&self) {
        let mut tests: Vec<&Outcome> = self.outcomes.iter().filter(|outcome| outcome.is_test).collect();
        tests.sort_by_key(|outcome| std::cmp::Reverse(outcome.took));
        if tests.len() <= SLOWEST {
            return;
        }
        step::title("the slowest tests");
        for test in tests.iter().take(SLOWEST) {
            println!(
                "   {:<72} {:>12}, CPU {}",
                test.name,
                step::seconds(test.took),
                step::seconds(test.cpu)
            );
        }
    }

    /// Prints the line of a step, and what failed in it. Jobs run side by side, so their times may add up to more than
    /// the time that has passed.
    fn print_step(&self, step: &'static str) {
        let outcomes = || self.outcomes.iter().filter(move |outcome| outcome.step == step);
        if outcomes().next().is_none() {
            return;
        }
        let counts = sum(outcomes());
        let how = if counts.failed == 0 { "ok" } else { "FAILED" };
        println!(
            "   {step:<28} {how:<7} {:>5} passed {:>3} failed   {:>12}, CPU {}",
            counts.passed,
            counts.failed,
            step::seconds(outcomes().map(|outcome| outcome.took).sum()),
            step::seconds(outcomes().map(|outcome| outcome.cpu).sum())
        );
        for failed in outcomes().filter(|outcome| outcome.counts.failed > 0) {
            let why = failed.error.as_deref().unwrap_or_default();
            println!(
                "      {}: {}",
                failed.name,
                why.lines().next().unwrap_or_default()
            );
        }
    }
}

fn sum<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Counts {
    let mut sum = Counts::default();
    for outcome in outcomes {
        sum += outcome.counts;
    }
    sum
}
