//! Runs jobs: first those that may run side by side, then the others, one at a time; and all of them even if one fails.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::counts::{self, Counts};
use super::job::{Counted, Folder, Job, Lane, Product};
use super::report::{Outcome, Report};
use crate::process::{self, Ended};
use crate::{paths, step};

/// How often the running jobs are printed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);
/// What a line of a test's output begins with that says that it measured times once more (`tests/src/again.rs`).
const MEASURED_AGAIN: &str = "measured once more: ";
/// How many builds run at a time. One alone leaves a core idle while it compiles its largest crate.
const MAX_BUILDS: usize = 2;
/// How many of the last lines of the output of a job are shown. All lines are in its file.
const SHOWN_LINES: usize = 400;
/// The niceness of builds, so that tests beside them, which have deadlines, come first.
const NICE: i32 = 10;

/// Makes further jobs from the standard output of a job.
pub type Expand<'a> = &'a dyn Fn(&str) -> Result<Vec<Job>>;

/// A running job.
#[derive(Debug)]
struct Running {
    number: usize,
    name: String,
    lane: Lane,
    began: Instant,
}

/// A job that has finished.
struct Finished {
    number: usize,
    job: Job,
    ended: Result<Ended>,
}

/// The waiting and the running jobs, and what has been made.
struct Schedule<'a> {
    waiting: VecDeque<Job>,
    running: Vec<Running>,
    made: Vec<Product>,
    failed: Vec<Product>,
    expand: Expand<'a>,
    max_together: usize,
    next_number: usize,
    send: Sender<Finished>,
    report: Report,
}

/// Runs all jobs, and those that `expand` makes from the output of the one that makes [`Product::Tests`].
pub fn run(jobs: Vec<Job>, expand: Expand) -> Report {
    let (send, finished) = channel();
    let mut schedule = Schedule {
        waiting: jobs.into(),
        running: Vec::new(),
        made: Vec::new(),
        failed: Vec::new(),
        expand,
        // One more than there are cores, since these tests mostly wait.
        max_together: thread::available_parallelism().map_or(2, usize::from) + 1,
        next_number: 0,
        send,
        report: Report::new(),
    };
    let mut last_progress = Instant::now();
    loop {
        schedule.start_ready();
        if schedule.running.is_empty() {
            break;
        }
        match finished.recv_timeout(PROGRESS_INTERVAL.saturating_sub(last_progress.elapsed())) {
            Ok(done) => schedule.finish(done),
            Err(RecvTimeoutError::Timeout) => {
                schedule.print_progress();
                last_progress = Instant::now();
            }
            // Impossible: the schedule holds a sender.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    schedule.report
}

impl Schedule<'_> {
    /// Starts every job that may run now. Jobs that can never run are counted as failed.
    fn start_ready(&mut self) {
        self.fail_blocked();
        while let Some(position) = self.waiting.iter().position(|job| self.may_start(job)) {
            let Some(job) = self.waiting.remove(position) else {
                return;
            };
            self.start(job);
        }
        if self.running.is_empty() && !self.waiting.is_empty() {
            // No running job will make what they need.
            for job in std::mem::take(&mut self.waiting) {
                self.add_not_run(&job, "nothing makes what it needs");
            }
        }
    }

    /// Whether a job may run beside those that are running, and has what it needs.
    fn may_start(&self, job: &Job) -> bool {
        let running = |lane: fn(&Lane) -> bool| self.running.iter().filter(|r| lane(&r.lane)).count();
        let alone = running(|lane| matches!(lane, Lane::Alone)) > 0;
        let has_room = match job.lane {
            Lane::Build(folder) => {
                let folder_is_free = |folder: Folder| {
                    let mut builds = self.running.iter();
                    !builds.any(|running| running.lane == Lane::Build(folder))
                };
                folder_is_free(folder) && running(|lane| matches!(lane, Lane::Build(_))) < MAX_BUILDS
            }
            Lane::Together => running(|lane| matches!(lane, Lane::Together)) < self.max_together,
            // These come last, so that none of them has to wait for another kind of job.
            Lane::Alone => self.running.is_empty() && self.waiting.iter().all(|job| job.lane == Lane::Alone),
        };
        !alone && has_room && job.needs.iter().all(|product| self.made.contains(product))
    }

    /// Removes waiting jobs whose needs could not be made, and counts them as failed.
    fn fail_blocked(&mut self) {
        while let Some((position, missing)) = self
            .waiting
            .iter()
            .enumerate()
            .find_map(|(position, job)| Some((position, self.failed_need(job)?)))
        {
            let Some(job) = self.waiting.remove(position) else {
                return;
            };
            self.failed.extend(job.makes);
            self.add_not_run(&job, &format!("{missing} could not be built"));
        }
    }

    /// A product that a job needs and that could not be made.
    fn failed_need(&self, job: &Job) -> Option<Product> {
        job.needs
            .iter()
            .copied()
            .find(|product| self.failed.contains(product))
    }

    /// Counts a job that was not run as failed.
    fn add_not_run(&mut self, job: &Job, why: &str) {
        println!("not run, and counted as failed: {} ({why})", job.name);
        self.report.add(Outcome {
            name: job.name.clone(),
            step: job.step,
            counts: Counts { passed: 0, failed: 1 },
            error: Some(why.to_owned()),
            ..Outcome::default()
        });
    }

    fn start(&mut self, mut job: Job) {
        let number = self.next_number;
        self.next_number += 1;
        self.running.push(Running {
            number,
            name: job.name.clone(),
            lane: job.lane,
            began: Instant::now(),
        });
        let send = self.send.clone();
        thread::spawn(move || {
            let niceness = if matches!(job.lane, Lane::Build(_)) {
                NICE
            } else {
                0
            };
            let apart = job.makes == Some(Product::Tests);
            let ended = process::run(&mut job.command, &logs(), &job.name, apart, niceness, job.at_most);
            // Only fails if the schedule itself has ended.
            let _ = send.send(Finished { number, job, ended });
        });
    }

    fn finish(&mut self, done: Finished) {
        let Finished {
            number,
            mut job,
            ended,
        } = done;
        self.running.retain(|running| running.number != number);
        let mut outcome = outcome(&job, &ended);
        let printed = match outcome.counts.failed > 0 || job.shown {
            true => ended.as_ref().map(Ended::printed).unwrap_or_default(),
            false => String::new(),
        };
        if outcome.counts.failed == 0 && job.makes == Some(Product::Tests) {
            let answer = ended.as_ref().map(Ended::answer).unwrap_or_default();
            match (self.expand)(&answer) {
                Ok(jobs) => self.waiting.extend(jobs),
                Err(error) => outcome.fail(format!("{error:#}")),
            }
        }
        if job.counted == Counted::Tests {
            let output = ended.as_ref().map(Ended::printed).unwrap_or_default();
            for why in output
                .lines()
                .filter_map(|line| line.strip_prefix(MEASURED_AGAIN))
            {
                self.report.add_measured_again(&job.name, why);
            }
        }
        let failed = outcome.counts.failed > 0;
        print(&job, &outcome, &printed);
        match (failed, job.makes) {
            (true, Some(product)) => self.failed.push(product),
            (false, Some(product)) => self.made.push(product),
            (_, None) => {}
        }
        if failed && job.retry {
            println!("{} compares times, and is run once more", job.name);
            job.retry = false;
            self.report.add_retried(outcome);
            self.waiting.push_back(job);
        } else {
            self.report.add(outcome);
        }
    }

    /// Prints which jobs are running, and how many are waiting.
    fn print_progress(&self) {
        let running: Vec<String> = self
            .running
            .iter()
            .map(|running| format!("{} ({})", running.name, step::seconds(running.began.elapsed())))
            .collect();
        println!(
            "   {}: running {}; {} jobs are waiting",
            step::seconds(self.report.elapsed()),
            running.join(", "),
            self.waiting.len()
        );
        step::flush();
    }
}

/// The folder in which the output of each job is kept.
fn logs() -> PathBuf {
    paths::target().join("xtask-logs").join("test")
}

/// The outcome of a job that has finished.
fn outcome(job: &Job, ended: &Result<Ended>) -> Outcome {
    let mut outcome = Outcome {
        name: job.name.clone(),
        step: job.step,
        is_test: job.counted == Counted::Tests,
        ..Outcome::default()
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            outcome.fail(format!("{error:#}"));
            return outcome;
        }
    };
    outcome.took = ended.took;
    outcome.cpu = ended.cpu;
    let printed = ended.printed();
    let counted = match job.counted {
        Counted::Check => Some(Counts {
            passed: u64::from(ended.status.success()),
            failed: u64::from(!ended.status.success()),
        }),
        Counted::Build => Some(Counts {
            passed: 0,
            failed: u64::from(!ended.status.success()),
        }),
        Counted::Tests => match counts::of_tests(&printed) {
            // The test was selected by its name, so it is a failure if none ran.
            (_, 0) | (Counts { passed: 0, failed: 0 }, _) => None,
            (counts, _) => Some(counts),
        },
        Counted::Examples => Some(counts::of_tests(&printed).0),
        Counted::LastLine => counts::of_last_line(&printed),
    };
    outcome.counts = counted.unwrap_or_default();
    if ended.killed {
        outcome.fail(format!("it ran for more than {}", step::seconds(job.at_most)));
    } else if counted.is_none() {
        outcome.fail(format!("it exited ({}) without counting any test", ended.status));
    } else if outcome.counts.failed == 0 && !ended.status.success() {
        outcome.fail(format!("{} although nothing failed", ended.status));
    } else if outcome.counts.failed > 0 {
        outcome.error = Some(format!(
            "{} of {}",
            ended.status,
            step::command_line(&job.command)
        ));
    }
    outcome
}

/// Prints one line, and a block of its output.
fn print(job: &Job, outcome: &Outcome, block: &str) {
    let how = match (outcome.counts.failed, outcome.counts.passed) {
        (0, 0 | 1) => "ok".to_owned(),
        (0, passed) => format!("ok, {passed} passed"),
        _ => "FAILED".to_owned(),
    };
    println!(
        "{} ... {how} ({}, CPU {})",
        job.name,
        step::seconds(outcome.took),
        step::seconds(outcome.cpu)
    );
    let lines: Vec<&str> = block.lines().collect();
    let left_out = lines.len().saturating_sub(SHOWN_LINES);
    if left_out > 0 {
        println!("   | ({left_out} earlier lines are in {})", logs().display());
    }
    for line in lines.iter().skip(left_out) {
        println!("   | {line}");
    }
    if let Some(error) = &outcome.error {
        println!("   {error}");
    }
    step::flush();
}

#[cfg(test)]
mod tests;
