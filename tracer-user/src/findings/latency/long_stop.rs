//! A stop of the world took long, and who delayed it.

use super::{Evidence, HALTED_MEANWHILE};
use crate::{
    findings::{
        Outcome, Severity, Verdict,
        figures::{counted, duration, moment},
    },
    model::{
        ongoing::Stop,
        sched::{LONG_STOP_NS, StopReport},
    },
    plan::Mode,
};

/// From here on it is a warning: as long as goroutines run at a time.
const VERY_LONG_NS: u64 = 10_000_000;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let Some(causes) = evidence.causes else {
        return without_events(evidence);
    };
    // One that is not over has a finding of its own.
    let long = causes
        .stops
        .iter()
        .filter(|stop| !stop.ongoing && stop.total_ns > LONG_STOP_NS);
    let Some(longest) = long.max_by_key(|stop| stop.total_ns) else {
        return Outcome::Ok;
    };
    let at_ns = evidence.since_begin(longest.begin_ns);
    let reason = reason_of(longest);
    let purpose = reason.map_or_else(String::new, |name| format!(", for {name}"));
    let longest_one = format!("{}{purpose}{}", moment(at_ns), delay(evidence, longest));
    let took = duration(longest.total_ns);
    // The list has only the longest.
    let (title, figures) = match causes.stop_counts.long {
        0 | 1 => (format!("one stop of the world took {took}"), longest_one),
        n => {
            let each = format!("each of them more than {}", duration(LONG_STOP_NS));
            (
                format!("{n} stops of the world took up to {took}"),
                format!("{each}; the longest {longest_one}"),
            )
        }
    };
    Verdict {
        severity: match longest.total_ns >= VERY_LONG_NS {
            true => Severity::Warning,
            false => Severity::Info,
        },
        title,
        evidence: figures,
        advice: match evidence.halted {
            [] => advice(longest, reason),
            _ => HALTED_MEANWHILE.to_owned(),
        },
        at_ns: Some(at_ns),
    }
    .into()
}

/// Where all pauses together are short, none is long. The runtime's sum is accurate to an eighth.
fn without_events(evidence: &Evidence) -> Outcome {
    let Some(pauses) = evidence.model.pauses() else {
        return Outcome::recheck(
            Mode::Full,
            "how long stops of the world took, and who delayed them",
        );
    };
    let total_ns = pauses.gc.1.saturating_add(pauses.other.1);
    match total_ns.saturating_add(total_ns / 8) <= LONG_STOP_NS {
        true => Outcome::Ok,
        false => Outcome::recheck(
            Mode::Full,
            format!(
                "how long each of {} of the world took, and who delayed it",
                counted(pauses.gc.0.saturating_add(pauses.other.0), "stop")
            ),
        ),
    }
}

/// The runtime's own words for the reason of a stop.
pub(super) fn reason_of(stop: &StopReport) -> Option<&'static str> {
    let of = Stop {
        reason: (stop.reason != 0).then_some(stop.reason),
        ..Stop::default()
    };
    of.reason_name()
}

/// How much of a stop was waiting for goroutines, and for whom.
fn delay(evidence: &Evidence, stop: &StopReport) -> String {
    match (stop.stopping_ns, stop.last) {
        (0, _) => ": no goroutine ran any more when it began".to_owned(),
        (ns, Some(who)) => format!(
            ": {} passed until {}, the last, had stopped",
            duration(ns),
            evidence.goroutine(who)
        ),
        (ns, None) => format!(": {} passed until every goroutine had stopped", duration(ns)),
    }
}

fn advice(stop: &StopReport, reason: Option<&str>) -> String {
    // Most of it was waiting for a goroutine.
    if stop.stopping_ns >= stop.total_ns / 2 {
        return "The goroutine that stopped last could not be interrupted: it runs a loop without calls under \
                GODEBUG=asyncpreemptoff=1, or assembly, or its thread had no CPU. Let it call a function now and then, or look \
                for other load."
            .to_owned();
    }
    let less = match reason {
        Some("read mem stats") => {
            "runtime.ReadMemStats stops the world: call it less often, or read runtime/metrics, which does not."
        }
        Some("goroutine profile" | "goroutine profile cleanup" | "all goroutines stack trace") => {
            "Its time grows with the number of goroutines: take such profiles and dumps less often."
        }
        Some("write heap dump") => "A dump of the heap stops the world as long as it is written.",
        Some("GOMAXPROCS") => "Each change of GOMAXPROCS stops the world: set it once.",
        Some(name) if name.starts_with("GC") => {
            "It takes longer with more Ps and more goroutines: allocate less, or raise GOGC or GOMEMLIMIT, so that the \
             collector runs less often."
        }
        _ => {
            "Every goroutine had stopped early: whoever stopped the world took the time, or its thread had no CPU."
        }
    };
    less.to_owned()
}
