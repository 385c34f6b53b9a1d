//! GOMAXPROCS changed during the capture: each change stops the world, and figures for the number of Ps are of several.

use super::{Evidence, long_stop::reason_of};
use crate::{
    findings::{
        Outcome, Severity, Verdict,
        figures::{counted, duration},
    },
    plan::Mode,
};

/// The first minor version of Go that changes it by itself, when the limit of the cgroup changes.
const FOLLOWS: u32 = 25;
/// Changes from which on it is a warning: by itself, Go looks at the limit once a second at most, and limits change
/// rarely.
const MANY: u64 = 10;
/// The runtime's word for the purpose of such a stop.
const PURPOSE: &str = "GOMAXPROCS";

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let now = evidence.gomaxprocs.map_or_else(String::new, |gomaxprocs| {
        format!("; it is {gomaxprocs} at the end")
    });
    let (times, figures) = match evidence.report {
        Some(report) => (
            report.world.resized,
            format!(
                "it was set {} within {}{now}",
                counted(report.world.resized, "time"),
                duration(evidence.window_ns)
            ),
        ),
        None => match evidence.model.gomaxprocs() {
            Some((first, last)) => (
                u64::from(first != last),
                format!("it was {first} at the begin and is {last} at the end"),
            ),
            None => return Outcome::recheck(Mode::Full, "whether GOMAXPROCS changes"),
        },
    };
    if times == 0 {
        return Outcome::Ok;
    }
    let stops = evidence.causes.map_or(&[][..], |causes| causes.stops.as_slice());
    let change = stops.iter().find(|stop| reason_of(stop) == Some(PURPOSE));
    let by_itself = match evidence.go_minor {
        Some(minor) if minor >= FOLLOWS => {
            " Go 1.25 and newer follow the CPU limit of the cgroup by themselves; GODEBUG=updatemaxprocs=0 switches that off."
        }
        _ => "",
    };
    Verdict {
        severity: match times >= MANY {
            true => Severity::Warning,
            false => Severity::Info,
        },
        title: "GOMAXPROCS was changed during the capture".to_owned(),
        evidence: figures,
        advice: format!(
            "Each change stops the world, and what is said of Ps holds for a part of the capture only. Set it once, at the \
             start.{by_itself}"
        ),
        at_ns: change.map(|stop| evidence.since_begin(stop.begin_ns)),
    }
    .into()
}
