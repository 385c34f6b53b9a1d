//! The runtime prints the state of its scheduler now and then, from within it.

use super::Evidence;
use crate::findings::{Outcome, Severity, Verdict, godebug::settings_on};

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let godebug = evidence
        .limits
        .godebug
        .as_ref()
        .map_or("", |godebug| godebug.raw());
    // scheddetail has no effect without schedtrace.
    if settings_on(godebug, &["schedtrace"]).is_empty() {
        return Outcome::Ok;
    }
    let is_detailed = !settings_on(godebug, &["scheddetail"]).is_empty();
    Verdict {
        severity: match is_detailed {
            true => Severity::Warning,
            false => Severity::Info,
        },
        title: "GODEBUG lets the scheduler print its state".to_owned(),
        evidence: format!(
            "GODEBUG has {}: sysmon writes to standard error with the scheduler's lock held{}",
            settings_on(godebug, &["schedtrace", "scheddetail"]).join(","),
            match is_detailed {
                true => ", a line for each goroutine, P and M",
                false => "",
            }
        ),
        advice: "Whoever needs that lock waits meanwhile, the longer the slower standard error is, and sysmon never sleeps for \
                 long. Measure without it: what it prints is in these figures, too."
            .to_owned(),
        at_ns: None,
    }
    .into()
}
