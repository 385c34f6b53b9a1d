//! Compares every change of a goroutine's state, as `gmpscope` in mode `full` has it, with `runtime/trace` of the same
//! run, one by one.

mod recorded;
mod subsequence;
pub mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tracer_user::document::capture::Capture;
use tracer_user::model::sched::State;

use self::recorded::StateChanges;
use self::subsequence::common;
use crate::environment::monotonic_ns;
use crate::oracle;
use crate::run::Attach;
use crate::scenario::Case;

/// One change of state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The time, on CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The state before.
    pub from: String,
    /// The state after.
    pub to: String,
    /// From gmpscope: how the goroutine became runnable or why it waits, by number.
    pub reason: u8,
    /// From gmpscope: the change was inferred, not seen.
    pub inferred: bool,
    /// From the trace: the id of the thread that wrote it.
    pub thread: i64,
    /// From the trace: whether that thread had a P.
    pub has_p: bool,
}

impl Change {
    fn is(&self, from: &str, to: &str) -> bool {
        self.from == from && self.to == to
    }

    /// From the trace: whether this and the next change of the same goroutine are a detour by Runnable that never
    /// happened.
    ///
    /// A system call that lost its P, and got one before it ended, is written as Runnable and then as Running by the
    /// function that leaves it, which has not made the goroutine Runnable. The thread has its P by then; if the
    /// goroutine becomes Runnable because there is no P for it, the thread has none. And a switch between coroutines is
    /// one record, of which the reader makes three changes: two records of one thread are a tick of its clock apart.
    fn begins_detour(&self, next: &Self) -> bool {
        let by_one = self.thread == next.thread && self.to == "runnable" && next.is("runnable", "running");
        let at_once = self.from == "syscall" && self.has_p;
        let switch = self.from == "waiting" && next.at_ns.saturating_sub(self.at_ns) < TICK_NS;
        by_one && (at_once || switch)
    }

    fn same(&self, other: &Self) -> bool {
        self.from == other.from && self.to == other.to
    }
}

/// Changes by goid, each list ordered by time.
pub type Changes = BTreeMap<u64, Vec<Change>>;

/// The number of the origin "syscall".
const SYSCALL: u8 = 4;
/// Nanoseconds per tick of a trace's clock. Each record of a thread is later than the one before.
const TICK_NS: u64 = 64;

/// Reads gmpscope's changes within a window from its recording.
pub fn ours(recording: &Path, from_ns: u64, to_ns: u64) -> Result<Changes> {
    let recorded = StateChanges::of(recording)?;
    let mut changes = Changes::new();
    for change in &recorded.changes {
        // The first appearance of a goroutine is not a change of its state.
        let is_first = change.inferred && change.from == State::Dead;
        if change.at_ns < from_ns || change.at_ns > to_ns || is_first {
            continue;
        }
        // A goroutine whose id gmpscope never learned cannot be compared, and counts as more.
        let goid = recorded.goids.get(&change.life).copied().unwrap_or(0);
        changes.entry(goid).or_default().push(Change {
            at_ns: change.at_ns,
            from: change.from.name().to_owned(),
            to: change.to.name().to_owned(),
            reason: change.reason,
            inferred: change.inferred,
            ..Change::default()
        });
    }
    changes.values_mut().for_each(without_detour);
    Ok(changes)
}

/// From Go 1.26 on a goroutine that returns from a system call is Running for a moment before it is known that it has
/// no P. `runtime/trace` does not write that.
fn without_detour(changes: &mut Vec<Change>) {
    let mut kept: Vec<Change> = Vec::with_capacity(changes.len());
    for change in changes.drain(..) {
        let detour = change.is("running", "runnable") && change.reason == SYSCALL;
        match kept.last_mut() {
            Some(last) if detour && last.is("syscall", "running") => {
                *last = Change {
                    from: "syscall".to_owned(),
                    ..change
                };
            }
            _ => kept.push(change),
        }
    }
    *changes = kept;
}

/// Reads the changes of a trace file within a window. The states at its begin are not changes.
pub fn theirs(trace: &Path, from_ns: u64, to_ns: u64) -> Result<Changes> {
    let text = oracle::changes(trace, from_ns, to_ns)?;
    let mut changes = Changes::new();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let mut next = || fields.next().with_context(|| format!("`{line}` is not a change"));
        let (at_ns, goid, from, to) = (next()?.parse()?, next()?.parse()?, next()?, next()?);
        if from != "unknown" {
            changes.entry(goid).or_default().push(Change {
                at_ns,
                from: from.to_owned(),
                to: to.to_owned(),
                thread: next()?.parse()?,
                has_p: next()? == "1",
                ..Change::default()
            });
        }
    }
    Ok(changes)
}

/// How far both sides agree.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    /// Changes in the trace, without those that are left out.
    pub theirs: u64,
    /// Those of them that gmpscope has in the same order.
    pub matched: u64,
    /// Changes that only gmpscope has.
    pub more: u64,
    /// Detours by Runnable that the trace writes and the goroutine never made: for each system call that got a P at
    /// once, how long the trace has the goroutine Runnable, in nanoseconds.
    pub syscalls_ns: Vec<u64>,
    /// The number of such detours at switches between coroutines.
    pub switches: u64,
    /// Differences between the times of matching changes, ascending: theirs minus ours, in nanoseconds.
    pub off_ns: Vec<i64>,
    /// Examples of what did not match.
    pub examples: Vec<String>,
}

impl Agreement {
    /// The share of all changes, of either side, that both have.
    pub fn share(&self) -> f64 {
        self.matched as f64 / (self.theirs + self.more).max(1) as f64
    }

    /// A quantile of the time differences.
    pub fn off(&self, q: f64) -> i64 {
        let rank = (q * self.off_ns.len().saturating_sub(1) as f64) as usize;
        self.off_ns.get(rank).copied().unwrap_or(0)
    }

    fn add(&mut self, goid: u64, theirs: &[Change], ours: &[Change]) {
        let theirs = self.without_artefacts(theirs);
        let pairs = common(&theirs, ours);
        self.theirs += theirs.len() as u64;
        self.matched += pairs.len() as u64;
        self.more += (ours.len() - pairs.len()) as u64;
        for &(a, b) in &pairs {
            // The reader of the trace has moved this change; its time is not its own.
            if theirs[a].at_ns.is_multiple_of(64) {
                self.off_ns.push(theirs[a].at_ns as i64 - ours[b].at_ns as i64);
            }
        }
        if pairs.len() < theirs.len().max(ours.len()) && self.examples.len() < 10 {
            let at = pairs
                .iter()
                .zip(0..)
                .position(|((a, b), n)| (*a, *b) != (n, n))
                .unwrap_or(pairs.len());
            let near = |changes: &[Change]| -> String {
                let shown = changes.iter().skip(at.saturating_sub(2)).take(6);
                shown
                    .map(|c| format!("{} {}->{}, ", c.at_ns, c.from, c.to))
                    .collect()
            };
            self.examples.push(format!(
                "goroutine {goid}, near {at}: trace {}gmpscope {}",
                near(&theirs),
                near(ours)
            ));
        }
    }

    /// The trace's changes without detours by Runnable that never happened.
    fn without_artefacts(&mut self, theirs: &[Change]) -> Vec<Change> {
        let mut kept: Vec<Change> = Vec::with_capacity(theirs.len());
        let mut rest = theirs.iter().peekable();
        while let Some(change) = rest.next() {
            let next = rest.next_if(|next| change.begins_detour(next));
            let Some(next) = next else {
                kept.push(change.clone());
                continue;
            };
            match change.from.as_str() {
                "syscall" => self.syscalls_ns.push(next.at_ns.saturating_sub(change.at_ns)),
                _ => self.switches += 1,
            }
            kept.push(Change {
                at_ns: next.at_ns,
                from: change.from.clone(),
                ..next.clone()
            });
        }
        kept
    }
}

/// A run with its comparison.
#[derive(Clone, Debug)]
pub struct Compared {
    /// How far both agree.
    pub agreement: Agreement,
    /// The capture.
    pub capture: Capture,
    /// gmpscope's standard error.
    pub said: String,
}

/// Runs a workload while both sides record it, and compares. `drive` keeps it busy while it is running.
///
/// # Errors
/// The run failed. Disagreement is not an error.
pub fn compare(case: &Case, more: &[&str]) -> Result<Compared> {
    let mut workload = case.start()?;
    let dir = tempfile::tempdir()?;
    let (trace, recording) = (dir.path().join("trace"), dir.path().join("recording.gmps"));
    workload.trace_start(&trace)?;
    let attach = Attach::to(workload.pid())
        .mode("full")
        .arg("--syscalls")
        .arg("--record")
        .arg(&recording.display().to_string());
    let attach = more.iter().fold(attach, |attach, arg| attach.arg(arg));
    let environment = case.environment.iter();
    let tracer = environment
        .fold(attach, |attach, (name, value)| attach.env(name, value))
        .start()?;
    // The initial states are read after attaching.
    std::thread::sleep(Duration::from_millis(50));
    let from_ns = monotonic_ns();
    workload.go_during(case.time)?;
    let to_ns = monotonic_ns();
    std::thread::sleep(Duration::from_millis(20));
    let outcome = tracer.interrupt()?;
    workload.trace_stop()?;
    let said = outcome.stderr.clone();
    let capture = outcome.captured()?;
    let ours = ours(&recording, from_ns, to_ns)?;
    let theirs = theirs(&trace, from_ns, to_ns)?;
    ensure!(!theirs.is_empty(), "the trace has no change in the window");
    let mut agreement = Agreement::default();
    let none = Vec::new();
    let goids: std::collections::BTreeSet<u64> = ours.keys().chain(theirs.keys()).copied().collect();
    for goid in goids {
        let (theirs, ours) = (theirs.get(&goid), ours.get(&goid));
        agreement.add(goid, theirs.unwrap_or(&none), ours.unwrap_or(&none));
    }
    agreement.off_ns.sort_unstable();
    Ok(Compared {
        agreement,
        capture,
        said,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(states: &str) -> Vec<Change> {
        let states: Vec<&str> = states.split(' ').collect();
        let pairs = states.windows(2).zip(1..);
        pairs
            .map(|(pair, n)| Change {
                at_ns: n * TICK_NS,
                from: pair[0].to_owned(),
                to: pair[1].to_owned(),
                ..Change::default()
            })
            .collect()
    }

    fn compared(theirs: &[Change], ours: &[Change]) -> Agreement {
        let mut agreement = Agreement::default();
        agreement.add(1, theirs, ours);
        agreement
    }

    #[test]
    fn what_is_missing_and_what_is_more_is_counted() {
        let long = "running waiting runnable running waiting runnable running waiting";
        let cases = [
            (long, long, (7, 7, 0)),
            (long, "running waiting runnable running waiting", (7, 4, 0)),
            ("running waiting runnable running waiting", long, (4, 4, 3)),
            (
                "running waiting runnable running",
                "running runnable running",
                (3, 1, 1),
            ),
            (long, "dead dead", (7, 0, 1)),
        ];
        for (theirs, ours, expected) in cases {
            let agreement = compared(&changes(theirs), &changes(ours));
            let found = (agreement.theirs, agreement.matched, agreement.more);
            assert_eq!(found, expected, "{theirs} / {ours}");
        }
    }

    #[test]
    fn only_a_system_call_that_ended_with_a_p_never_was_runnable() {
        let ours = changes("running syscall running waiting");
        let mut theirs = changes("running syscall runnable running waiting");
        let agreement = compared(&theirs, &ours);
        assert!(agreement.share() < 0.8 && agreement.syscalls_ns.is_empty());
        theirs[1].has_p = true;
        let agreement = compared(&theirs, &ours);
        assert_eq!((agreement.share(), agreement.syscalls_ns), (1.0, vec![TICK_NS]));
        // If it really was Runnable, gmpscope is wrong to say otherwise.
        assert!(compared(&theirs, &theirs).share() < 1.0);
        theirs[2].thread = 1;
        assert!(compared(&theirs, &ours).share() < 0.8);
    }

    #[test]
    fn only_what_one_record_wrote_is_a_switch() {
        let ours = changes("running waiting running waiting");
        let mut theirs = changes("running waiting runnable running waiting");
        assert_eq!(compared(&theirs, &ours).switches, 0);
        theirs[2].at_ns = theirs[1].at_ns + 2;
        let agreement = compared(&theirs, &ours);
        assert_eq!((agreement.share(), agreement.switches), (1.0, 1));
    }
}
