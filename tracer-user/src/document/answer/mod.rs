//! The answer of a capture, in at most four lines: how long goroutines waited to run, and why; the longest wait; what is
//! not known; and voluntary yields, where they are most of it.
//!
//! It is made from the document alone, so that a capture that is read as JSON can have it, too. A line is there only
//! where it has something to say.

use crate::document::by_name::ByName;
use crate::document::capture::{Capture, CaptureMode};
use crate::document::causes::words::{are_of_runtime, goroutines_of, percent, sentence, time};
use crate::escape::Untrusted;
use crate::model::sched::Cause;
use crate::stream::Origin;

/// Most lines.
const LINES: usize = 4;
/// Most causes that are named.
const CAUSES: usize = 4;
/// The smallest share of a cause that is named, and of voluntary yields.
const SMALLEST_SHARE: f64 = 0.05;
/// The share of unknown causes from which on they are mentioned: figures of the others may be wrong by so much.
const MUCH_UNKNOWN: f64 = 0.02;
/// A wait below this is not worth a line: waking a thread can take as long.
const LONG_NS: u64 = 1_000_000;
/// A culprit is named if this share of the waiting behind Ps that ran goroutines is due to it.
const MUCH_HELD: f64 = 0.2;

/// Makes the answer of a capture again. To be called after each change of what it is made from.
pub fn renew(capture: &mut Capture) {
    capture.answer = of(capture);
}

/// Returns the answer of a capture; nothing where it does not know how long goroutines waited.
pub fn of(capture: &Capture) -> Vec<Untrusted> {
    let first = by_cause(capture)
        .or_else(|| estimated(capture))
        .or_else(|| counted(capture));
    let mut lines: Vec<String> = Vec::new();
    if let Some(first) = first {
        lines.push(first);
        lines.extend(longest(capture));
        lines.extend(mean(capture));
        lines.extend(not_known(capture));
    }
    lines.extend(mostly_yields(capture));
    lines.truncate(LINES);
    lines.into_iter().map(Untrusted::from).collect()
}

/// A cause with its share of all waiting.
struct Part {
    cause: Cause,
    share: f64,
    /// The ends of its 95 % interval, if it is an estimate.
    interval: Option<(f64, f64)>,
}

impl Part {
    /// `71 % all Ps busy`.
    fn text(&self, capture: &Capture) -> String {
        let share = percent(self.share);
        let share = match self.interval {
            Some((low, high)) => format!("about {share} ({:.0} to {:.0} %)", low * 100.0, high * 100.0),
            None => share,
        };
        let culprit = match self.cause {
            Cause::PBusy => culprit(capture),
            _ => String::new(),
        };
        format!("{share} {}{culprit}", self.cause.phrase())
    }
}

/// Names the largest of these causes.
fn causes(capture: &Capture, parts: impl Iterator<Item = Part>) -> String {
    let mut parts: Vec<Part> = parts
        .filter(|part| part.cause != Cause::Yielded && part.share >= SMALLEST_SHARE)
        .collect();
    parts.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.cause.cmp(&b.cause)));
    parts.truncate(CAUSES);
    if parts.is_empty() {
        return String::new();
    }
    let texts: Vec<String> = parts.iter().map(|part| part.text(capture)).collect();
    format!(": {}", texts.join("; "))
}

/// Names who held most of the Ps that ran goroutines.
fn culprit(capture: &Capture) -> String {
    let busy_ns = total_ns(capture, Cause::PBusy);
    let mut culprits = capture.culprits.iter();
    let Some(first) = culprits.find(|culprit| !are_of_runtime(culprit.creation_site.as_ref())) else {
        return String::new();
    };
    let who = goroutines_of(first.creation_site.as_ref());
    match share(first.held_ns, busy_ns).min(1.0) {
        part if part > 0.5 => format!(", mostly with {who}"),
        part if part >= MUCH_HELD => format!(", {} of it with {who}", percent(part)),
        _ => String::new(),
    }
}

/// How long goroutines waited, as every wait that was seen says: `full`.
fn by_cause(capture: &Capture) -> Option<String> {
    let waited_ns = capture.waited_ns();
    if waited_ns == 0 {
        return None;
    }
    let parts = capture.by_cause.iter().map(|(cause, time)| Part {
        cause: **cause,
        share: share(time.total_ns, waited_ns),
        interval: None,
    });
    Some(format!(
        "{}{}{}",
        waited(capture, waited_ns),
        causes(capture, parts),
        not_counted(capture, waited_ns)
    ))
}

/// How long goroutines waited, as samples estimate it: `passive`, `sampled`.
fn estimated(capture: &Capture) -> Option<String> {
    let estimate = capture.cause_estimate.as_ref()?;
    let samples = estimate.samples;
    if samples == 0 {
        return None;
    }
    if estimate.runnable_mean <= 0.0 {
        return Some(format!(
            "no goroutine was waiting to run in any of {samples} samples of the run queues"
        ));
    }
    let duration_ns = capture.capture.duration_ns;
    let parts = estimate.by_cause.iter().map(|(cause, of)| Part {
        cause: **cause,
        share: of.share,
        interval: Some((of.low, of.high)),
    });
    Some(format!(
        "runnable goroutines waited about {} in {} ({}, from {samples} samples){}",
        time((estimate.runnable_mean * duration_ns as f64) as u64),
        time(duration_ns),
        at_a_time(estimate.runnable_mean),
        causes(capture, parts)
    ))
}

/// How long goroutines waited, where it is not known why: `exact`.
fn counted(capture: &Capture) -> Option<String> {
    let waited_ns = capture.waits().sum_ns.filter(|ns| *ns > 0)?;
    (capture.capture.mode == CaptureMode::Exact).then(|| {
        format!(
            "{}{}; --mode full says why",
            waited(capture, waited_ns),
            not_counted(capture, waited_ns)
        )
    })
}

/// `runnable goroutines waited 228 s in 5.0 s (45.6 at a time)`.
fn waited(capture: &Capture, waited_ns: u64) -> String {
    let duration_ns = capture.capture.duration_ns;
    let mean = at_a_time(share(waited_ns, duration_ns));
    format!(
        "runnable goroutines waited {} in {} ({mean})",
        time(waited_ns),
        time(duration_ns)
    )
}

fn at_a_time(mean: f64) -> String {
    match mean {
        mean if mean < 0.05 => "under 0.1 at a time".to_owned(),
        mean => format!("{mean:.1} at a time"),
    }
}

/// Names voluntary yields, which are not in the figure before, where they are many.
fn not_counted(capture: &Capture, waited_ns: u64) -> String {
    let yielded_ns = yielded_ns(capture);
    match share(yielded_ns, yielded_ns.saturating_add(waited_ns)) {
        part if part > SMALLEST_SHARE => {
            format!(
                "; not counted: {} after voluntary yields (runtime.Gosched)",
                time(yielded_ns)
            )
        }
        _ => String::new(),
    }
}

/// The longest wait, if it is long: `full`.
fn longest(capture: &Capture) -> Option<String> {
    let wait = capture.full.as_ref()?.slowest.first()?;
    (wait.duration_ns >= LONG_NS).then(|| format!("the longest wait: {}", sentence(wait).raw()))
}

/// The mean wait, as samples estimate it.
fn mean(capture: &Capture) -> Option<String> {
    let estimate = capture.cause_estimate.as_ref()?;
    let mean_ns = estimate.mean_wait_ns.filter(|ns| *ns > 0)?;
    Some(format!("on average a wait took at most about {}", time(mean_ns)))
}

/// What is missing or not known, where that matters.
fn not_known(capture: &Capture) -> Option<String> {
    let how = &capture.capture;
    let mut parts = Vec::new();
    if how.lost_events > 0 {
        parts.push(format!("{} waits are missing", how.lost_events));
    } else if !how.complete {
        parts.push("not all was captured".to_owned());
    }
    parts.extend(unknown(capture));
    if let Some(estimate) = &capture.cause_estimate {
        let all = estimate.samples.saturating_add(estimate.torn);
        if estimate.torn > all / 10 {
            parts.push(format!(
                "{} of {all} samples were left out, since the Ps changed meanwhile",
                estimate.torn
            ));
        }
    }
    let which = if how.complete { "" } else { "incomplete: " };
    (!parts.is_empty()).then(|| format!("{which}{}", parts.join("; ")))
}

/// The share without a known cause, where it is large.
fn unknown(capture: &Capture) -> Option<String> {
    let estimated = capture.cause_estimate.as_ref();
    let estimated = estimated.and_then(|estimate| estimate.by_cause.get(&ByName(Cause::Unknown)));
    let unknown_ns = total_ns(capture, Cause::Unknown);
    let part = match estimated {
        Some(estimated) => estimated.share,
        None => share(unknown_ns, capture.waited_ns()),
    };
    let causes = capture.full.as_ref().and_then(|full| full.causes);
    let before_ns = causes.map_or(0, |causes| causes.before_known_ns);
    let before = match before_ns > unknown_ns / 2 {
        true => ", most of it from before all states were known",
        false => "",
    };
    (part > MUCH_UNKNOWN).then(|| format!("{} of the waiting has no known cause{before}", percent(part)))
}

/// Says so where voluntary yields are most of what goroutines waited.
fn mostly_yields(capture: &Capture) -> Option<String> {
    let waited_ns = match capture.by_cause.is_empty() {
        true => capture.waits().sum_ns.unwrap_or(0),
        false => capture.waited_ns(),
    };
    let yielded_ns = yielded_ns(capture);
    (yielded_ns > waited_ns).then(|| {
        format!(
            "most of the time in which goroutines could run, {} of {}, was after they had yielded of their own will \
             (runtime.Gosched), as loops that poll do, and the runtime itself while it sweeps",
            time(yielded_ns),
            time(yielded_ns.saturating_add(waited_ns))
        )
    })
}

/// The time that goroutines were runnable after voluntary yields, where these are distinguished from other waits.
fn yielded_ns(capture: &Capture) -> u64 {
    if !capture.by_cause.is_empty() {
        return total_ns(capture, Cause::Yielded);
    }
    let yielded = capture.by_origin.get(&ByName(Origin::Yielded));
    let yielded = yielded.filter(|_| capture.without_yields.is_some());
    yielded.and_then(|hist| hist.sum_ns).unwrap_or(0)
}

fn total_ns(capture: &Capture, cause: Cause) -> u64 {
    let time = capture.by_cause.get(&ByName(cause));
    time.map_or(0, |time| time.total_ns)
}

fn share(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => part as f64 / whole as f64,
    }
}

#[cfg(test)]
mod tests;
