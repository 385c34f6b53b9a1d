//! Goroutines of one `go` statement are made all the time, and hardly any of them ends.

use std::collections::BTreeMap;

use super::Evidence;
use crate::{
    findings::{Outcome, Verdict, figures::duration},
    model::sched::{History, State},
    plan::Mode,
};

/// How many more must be made than end: fewer are a pool that fills.
const LEAST: u64 = 100;
/// How many times as many must be made as end.
const TIMES: u64 = 2;
/// Creation sites that are named.
const NAMED: usize = 3;
/// What must still be added in the second half of the capture, as one part in so many of what is added in all: a pool that
/// is full by then is not a leak.
const STILL: u64 = 4;

/// Goroutines that were made and that ended, of one function with `go` statements.
struct Site {
    name: String,
    created: u64,
    exited: u64,
}

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let Some(report) = evidence.report else {
        return without_events(evidence);
    };
    if !keeps_growing(&report.history) {
        return Outcome::Ok;
    }
    let mut by_name: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for site in &report.sites {
        let (created, exited) = by_name.entry(evidence.site(site.gopc)).or_default();
        *created = created.saturating_add(site.created);
        *exited = exited.saturating_add(site.exited);
    }
    let sites = by_name.into_iter().map(|(name, (created, exited))| Site {
        name,
        created,
        exited,
    });
    let mut leaks: Vec<Site> = sites.filter(Site::grows).collect();
    leaks.sort_by(|a, b| b.more().cmp(&a.more()).then_with(|| a.name.cmp(&b.name)));
    let Some(worst) = leaks.first() else {
        return Outcome::Ok;
    };
    let named: Vec<String> = leaks
        .iter()
        .take(NAMED)
        .map(|site| format!("{} {} made and {} ended", site.name, site.created, site.exited))
        .collect();
    let all = match ends(&report.history) {
        Some((first, last)) => format!("; in all there were {first} at first and {last} at the end"),
        None => String::new(),
    };
    Verdict::warning(
        format!("goroutines of {} are made and do not end", worst.name),
        format!(
            "within {}: {}{all}",
            duration(evidence.window_ns),
            named.join(", ")
        ),
        "See what they wait for (`full --stacks` shows where): a channel that nobody writes to or reads from, a context that is \
         not cancelled, a connection without a timeout.",
    )
    .into()
}

impl Site {
    fn more(&self) -> u64 {
        self.created.saturating_sub(self.exited)
    }

    fn grows(&self) -> bool {
        self.more() >= LEAST && self.created >= self.exited.saturating_mul(TIMES)
    }
}

/// All goroutines at one moment.
fn living_in(living: &[u64; State::COUNT]) -> u64 {
    let states = State::ALL.into_iter().zip(living);
    let alive = states.filter(|(state, _)| *state != State::Dead);
    alive.fold(0u64, |sum, (_, count)| sum.saturating_add(*count))
}

/// The number of goroutines at the first and the last moment.
fn ends(history: &History) -> Option<(u64, u64)> {
    let (first, last) = (history.moments.first()?, history.moments.last()?);
    Some((living_in(first), living_in(last)))
}

/// Whether there are more and more of them, in the second half of the capture as well as in the first. Where a capture is
/// too short for moments, nothing contradicts that.
fn keeps_growing(history: &History) -> bool {
    let middle = history.moments.get(history.moments.len() / 2).map(living_in);
    let (Some(middle), Some((first, last))) = (middle, ends(history)) else {
        return true;
    };
    let grown = last.saturating_sub(first);
    grown >= LEAST && last.saturating_sub(middle) >= grown / STILL
}

/// What the runtime's own count of goroutines says of it.
fn without_events(evidence: &Evidence) -> Outcome {
    match evidence.model.grown() {
        Some(grown) if grown < LEAST => Outcome::Ok,
        Some(grown) => Outcome::recheck(
            Mode::Full,
            format!(
                "which go statement makes goroutines that do not end: at the end there were {grown} more of them"
            ),
        ),
        None => Outcome::recheck(Mode::Full, "whether goroutines are made that do not end"),
    }
}
