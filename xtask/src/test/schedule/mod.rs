//! Runs jobs: those that may, side by side; then the others, one at a time. All of them, even if one fails.

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

/// How long a job may take. The longest build takes a quarter of this on two cores that are busy otherwise.
const AT_MOST: Duration = Duration::from_secs(30 * 60);
/// How often it is said what is running.
const PROGRESS: Duration = Duration::from_secs(60);
/// Builds at a time: one alone leaves a core idle whenever it waits for its largest crate.
const MOST_BUILDS: usize = 2;
/// Most lines that are shown of what a job printed, its last ones; all of them are in its file.
const MOST_LINES: usize = 400;
/// The scheduling priority of builds, which wait for nothing, beside tests, which have deadlines.
const NICE: i32 = 10;

/// Makes further jobs of what a job printed to standard output.
pub type Expand<'a> = &'a dyn Fn(&str) -> Result<Vec<Job>>;

/// A job that runs.
#[derive(Debug)]
struct Running {
    number: usize,
    name: String,
    lane: Lane,
    began: Instant,
}

/// What came of it.
struct Finished {
    number: usize,
    job: Job,
    ended: Result<Ended>,
}

/// Jobs that wait and run, and what was made.
struct Schedule<'a> {
    waiting: VecDeque<Job>,
    running: Vec<Running>,
    made: Vec<Product>,
    failed: Vec<Product>,
    expand: Expand<'a>,
    most_together: usize,
    next_number: usize,
    send: Sender<Finished>,
    report: Report,
}

/// Runs all jobs. The one that makes [`Product::Tests`] is followed by those that `expand` makes of its output.
pub fn run(jobs: Vec<Job>, expand: Expand) -> Report {
    let (send, finished) = channel();
    let mut schedule = Schedule {
        waiting: jobs.into(),
        running: Vec::new(),
        made: Vec::new(),
        failed: Vec::new(),
        expand,
        // One more than there are cores: most of these tests wait most of the time.
        most_together: thread::available_parallelism().map_or(2, usize::from) + 1,
        next_number: 0,
        send,
        report: Report::new(),
    };
    let mut last_said = Instant::now();
    loop {
        schedule.start_what_may();
        if schedule.running.is_empty() {
            break;
        }
        match finished.recv_timeout(PROGRESS.saturating_sub(last_said.elapsed())) {
            Ok(done) => schedule.finish(done),
            Err(RecvTimeoutError::Timeout) => {
                schedule.say_what_runs();
                last_said = Instant::now();
            }
            // We hold a sender ourselves.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    schedule.report
}

impl Schedule<'_> {
    /// Starts every job that may run now; those that can never run have failed.
    fn start_what_may(&mut self) {
        self.give_up_what_cannot();
        while let Some(place) = self.waiting.iter().position(|job| self.may_start(job)) {
            let Some(job) = self.waiting.remove(place) else {
                return;
            };
            self.start(job);
        }
        if self.running.is_empty() && !self.waiting.is_empty() {
            // Nothing that runs could make what they need.
            for job in std::mem::take(&mut self.waiting) {
                self.cannot_run(&job, "nothing makes what it needs");
            }
        }
    }

    fn may_start(&self, job: &Job) -> bool {
        let running = |lane: fn(&Lane) -> bool| self.running.iter().filter(|r| lane(&r.lane)).count();
        let alone = running(|lane| matches!(lane, Lane::Alone)) > 0;
        let has_room = match job.lane {
            Lane::Build(folder) => {
                let folder_is_free = |folder: Folder| {
                    let mut builds = self.running.iter();
                    !builds.any(|running| running.lane == Lane::Build(folder))
                };
                folder_is_free(folder) && running(|lane| matches!(lane, Lane::Build(_))) < MOST_BUILDS
            }
            Lane::Together => running(|lane| matches!(lane, Lane::Together)) < self.most_together,
            // The last, so that nothing else has to be waited for in between.
            Lane::Alone => self.running.is_empty() && self.waiting.iter().all(|job| job.lane == Lane::Alone),
        };
        !alone && has_room && job.needs.iter().all(|product| self.made.contains(product))
    }

    /// Jobs whose needs could not be made are not passed over in silence.
    fn give_up_what_cannot(&mut self) {
        while let Some((place, lacks)) = self
            .waiting
            .iter()
            .enumerate()
            .find_map(|(place, job)| Some((place, self.lacks(job)?)))
        {
            let Some(job) = self.waiting.remove(place) else {
                return;
            };
            self.failed.extend(job.makes);
            self.cannot_run(&job, &format!("{lacks} could not be built"));
        }
    }

    fn lacks(&self, job: &Job) -> Option<Product> {
        job.needs
            .iter()
            .copied()
            .find(|product| self.failed.contains(product))
    }

    fn cannot_run(&mut self, job: &Job, why: &str) {
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
            let ended = process::run(&mut job.command, &logs(), &job.name, apart, niceness, AT_MOST);
            // Nobody is there to be told only if the schedule itself has ended.
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
        let failed = outcome.counts.failed > 0;
        print(&job, &outcome, &printed);
        match (failed, job.makes) {
            (true, Some(product)) => self.failed.push(product),
            (false, Some(product)) => self.made.push(product),
            (_, None) => {}
        }
        if failed && job.again {
            println!("{} compares times, and is run once more", job.name);
            job.again = false;
            self.report.add_run_again(outcome);
            self.waiting.push_back(job);
        } else {
            self.report.add(outcome);
        }
    }

    fn say_what_runs(&self) {
        let running: Vec<String> = self
            .running
            .iter()
            .map(|running| format!("{} ({})", running.name, step::seconds(running.began.elapsed())))
            .collect();
        println!(
            "   {}: running {}; {} jobs wait",
            step::seconds(self.report.elapsed()),
            running.join(", "),
            self.waiting.len()
        );
        step::flush();
    }
}

/// Where what each job printed is kept.
fn logs() -> PathBuf {
    paths::target().join("xtask-logs").join("test")
}

/// What a job that has ended counts as.
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
            // Each test was named: one that did not run is not a success.
            (_, 0) | (Counts { passed: 0, failed: 0 }, _) => None,
            (counts, _) => Some(counts),
        },
        Counted::Examples => Some(counts::of_tests(&printed).0),
        Counted::LastLine => counts::of_last_line(&printed),
    };
    outcome.counts = counted.unwrap_or_default();
    if ended.killed {
        outcome.fail(format!("it ran for more than {}", step::seconds(AT_MOST)));
    } else if counted.is_none() {
        outcome.fail(format!("it ended ({}) without counting any test", ended.status));
    } else if outcome.counts.failed == 0 && !ended.status.success() {
        outcome.fail(format!("{} although nothing failed", ended.status));
    } else if outcome.counts.failed > 0 {
        outcome.error = Some(format!("{} of {}", ended.status, step::words(&job.command)));
    }
    outcome
}

/// One line, and the block of what it printed.
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
    let left_out = lines.len().saturating_sub(MOST_LINES);
    if left_out > 0 {
        println!("   | ({left_out} lines before are in {})", logs().display());
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
