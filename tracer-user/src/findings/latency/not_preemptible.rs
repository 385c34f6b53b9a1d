//! A goroutine ran on a CPU for longer than the runtime lets one run, so it could not be interrupted.

use super::{Evidence, WITHOUT_THREADS};
use crate::{
    findings::{
        Outcome, Verdict,
        figures::{counted, duration, moment},
        godebug::settings_on,
    },
    latency::Histogram,
    model::sched::{Culprit, Who},
    plan::Mode,
};

/// sysmon interrupts a goroutine that it finds running for the second time after 10 ms, and looks every 10 ms: 20 ms pass
/// at most (proc.go, `retake`). Half as much again is for the kernel, which must wake sysmon and deliver the signal.
const LONG_NS: u64 = 30_000_000;
/// Creation sites that are named.
const NAMED: usize = 3;
/// Where the names of the functions begin that start the collector's workers: a worker runs until it is done.
const COLLECTORS: &str = "runtime.gc";

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let what = "whether a goroutine runs for so long that it cannot be interrupted";
    let Some(causes) = evidence.causes else {
        return Outcome::recheck(Mode::Full, what);
    };
    // Without them, time without a CPU is not known, and would count as running.
    if !evidence.sees_threads() {
        return Outcome::recheck(Mode::Full, format!("{what}{WITHOUT_THREADS}"));
    }
    let long = causes
        .culprits
        .iter()
        .filter(|culprit| culprit.longest_ns > LONG_NS);
    let mut long: Vec<(&Culprit, String)> = long
        .map(|culprit| (culprit, evidence.site(culprit.gopc)))
        .filter(|(_, site)| !site.starts_with(COLLECTORS))
        .collect();
    long.sort_by(|a, b| b.0.longest_ns.cmp(&a.0.longest_ns).then_with(|| a.1.cmp(&b.1)));
    let Some((longest, site)) = long.first() else {
        return Outcome::Ok;
    };
    let named: Vec<String> = long
        .iter()
        .take(NAMED)
        .map(|(culprit, site)| described(evidence, culprit, site))
        .collect();
    // It is named with the end of its run.
    let middle_ns = longest.longest_at_ns.saturating_sub(longest.longest_ns / 2);
    Verdict::warning(
        format!(
            "a goroutine of {site} ran for {} without giving way",
            duration(longest.longest_ns)
        ),
        format!(
            "on a CPU for more than {} at a time: {}",
            duration(LONG_NS),
            named.join("; ")
        ),
        advice(evidence),
    )
    .at(Some(evidence.since_begin(middle_ns)))
    .into()
}

/// `goroutines of main.crunch 12 times, up to 61.2 ms (goroutine 7, ending at 1.204 s)`.
fn described(evidence: &Evidence, culprit: &Culprit, site: &str) -> String {
    let times = culprit.on_cpu.as_ref().map_or(0, |delta| {
        let mut histogram = Histogram::new(delta.scheme);
        histogram.add_delta(delta);
        histogram.count_above(LONG_NS)
    });
    // The bucket of a run may begin below the bound.
    let times = counted(times.max(1), "time");
    let who = evidence.goroutine(Who {
        goid: culprit.longest_goid,
        gopc: 0,
    });
    format!(
        "goroutines of {site} {times}, up to {} ({who}, ending {})",
        duration(culprit.longest_ns),
        moment(evidence.since_begin(culprit.longest_at_ns))
    )
}

fn advice(evidence: &Evidence) -> String {
    let godebug = evidence
        .limits
        .godebug
        .as_ref()
        .map_or("", |godebug| godebug.raw());
    let why = match settings_on(godebug, &["asyncpreemptoff"]).as_slice() {
        [] => {
            "It runs a loop that no signal can interrupt (assembly, code of the runtime, GODEBUG=asyncpreemptoff=1)"
        }
        _ => "GODEBUG has asyncpreemptoff=1, so that a loop without calls is not interrupted",
    };
    format!(
        "{why}, or sysmon, which would interrupt it, had no CPU. Meanwhile nothing else runs on its P, and a stop of the world \
         waits for it: let it call a function now and then, or do less at a time."
    )
}
