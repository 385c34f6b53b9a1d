//! What made a start slow. A phase is called slow for a reason that was seen in it: it slept, it got no CPU,
//! it met page faults, or it computed far longer than in this binary's other starts. How long it took alone is
//! no reason: what is long depends on the program and the machine.

use super::{
    Finding,
    rules::{self, milliseconds as duration},
};
use crate::model::start::{CallAt, Ended, Phase, Start};

/// Least share of the whole start that makes a phase worth a word: one part in so many.
const SHARE: u64 = 5;
/// Least share of a phase that its reason must make up: one part in so many.
const MOST: u64 = 2;
/// Sleep below this comes with every start: threads wait for each other, pages are read.
const SLEEP_NS: u64 = 5_000_000;
/// Waiting for a CPU below this comes with every busy machine.
const NO_CPU_NS: u64 = 20_000_000;
/// Page faults below this come with every start.
const FAULTS: u64 = 1_000;
/// Starts to compare with, at the least.
const OTHERS: usize = 2;
/// How many times as much CPU time as in the median of the other starts.
const FAR_ABOVE: u64 = 3;
/// Differences of CPU time below this are noise.
const CPU_NS: u64 = 2_000_000;
/// System calls that are named with a phase.
const CALLS: usize = 3;

/// Settings of `GODEBUG` that print while the program starts, and so make it slower.
const DISTORTING: [&str; 4] = ["schedtrace", "scheddetail", "inittrace", "gctrace"];

/// All that the rules look at.
pub struct Evidence<'a> {
    /// The start that is judged.
    pub start: &'a Start,
    /// Other starts of the same binary.
    pub others: &'a [Start],
    /// CPUs that its cgroup may use, where it is limited.
    pub cgroup_cpu_limit: Option<f64>,
    /// How often its cgroup was throttled meanwhile, and for how long in nanoseconds.
    pub throttled: Option<(u64, u64)>,
    /// Its `GODEBUG`.
    pub godebug: Option<&'a str>,
}

/// Applies every rule.
pub fn find(evidence: &Evidence) -> Vec<Finding> {
    let phases = evidence.start.phases.iter();
    phases
        .flat_map(|phase| reasons(evidence, phase))
        .chain(godebug(evidence))
        .chain(
            rules::gomaxprocs(evidence.start.gomaxprocs, evidence.cgroup_cpu_limit)
                .map(|verdict| super::finding("gomaxprocs-above-cgroup-limit", verdict)),
        )
        .collect()
}

fn warning(id: &str, title: String, evidence: String, advice: &str) -> Finding {
    Finding {
        id: id.to_owned(),
        severity: "warning".to_owned(),
        title: title.into(),
        evidence: evidence.into(),
        advice: advice.to_owned(),
    }
}

/// Why a phase was slow, if it was.
fn reasons(evidence: &Evidence, phase: &Phase) -> Vec<Finding> {
    let start = evidence.start;
    let Some(usage) = phase.usage else {
        return Vec::new();
    };
    let (name, took) = (phase.step.name(), phase.duration_ns());
    let stuck = start.ended != Ended::Main && start.phases.last() == Some(phase);
    if took < start.duration_ns() / SHARE {
        return Vec::new();
    }
    let mut found = Vec::new();
    let calls = calls(start, phase);
    // One that sleeps while the capture ends has not been told to have slept.
    let still = if stuck { unfinished_ns(start, phase) } else { 0 };
    let asleep = usage.asleep_ns.max(still);
    if asleep >= SLEEP_NS && asleep >= took / MOST {
        found.push(warning(
            "start-phase-slept",
            format!("{name} waited for {}", duration(asleep)),
            format!(
                "it {} {}, and its thread was asleep for {} of it{calls}",
                if stuck { "had not ended after" } else { "took" },
                duration(took),
                duration(asleep)
            ),
            "Nothing else starts meanwhile: package inits run one after the other. Do it later, when it is \
             needed, or with a shorter timeout.",
        ));
    }
    if usage.waiting_ns >= NO_CPU_NS && usage.waiting_ns >= took / MOST {
        let throttled = match evidence.throttled {
            Some((periods, ns)) if periods > 0 => format!(
                "; meanwhile the kernel throttled its cgroup in {periods} periods, for {} in all",
                duration(ns)
            ),
            _ => String::new(),
        };
        let limit = evidence.cgroup_cpu_limit.map_or_else(String::new, |limit| {
            format!("; the cgroup may use {limit:.2} CPUs")
        });
        found.push(warning(
            "start-phase-without-cpu",
            format!("{name} got no CPU for {}", duration(usage.waiting_ns)),
            format!(
                "it took {}, and its thread could have run and did not for {} of it{limit}{throttled}",
                duration(took),
                duration(usage.waiting_ns)
            ),
            "More CPU for the cgroup while it starts, or less to do until main.main.",
        ));
    }
    let faults = usage.minor_faults.saturating_add(usage.major_faults);
    let cpu = phase.cpu_ns().unwrap_or(0);
    if faults >= FAULTS && cpu >= took / MOST {
        found.push(warning(
            "start-phase-page-faults",
            format!("{name} met {faults} page faults"),
            format!(
                "it took {}, {} of it on the CPU, with {faults} page faults ({} read from disk)",
                duration(took),
                duration(cpu),
                usage.major_faults
            ),
            "Memory is touched for the first time: large tables that are built in an init. Build them when they \
             are needed, or keep them as data that needs no building.",
        ));
    }
    found.extend(cpu_above_others(evidence, phase, cpu));
    found
}

/// CPU time far above that of the same phase in the other starts.
fn cpu_above_others(evidence: &Evidence, phase: &Phase, cpu: u64) -> Option<Finding> {
    let mut others: Vec<u64> = evidence
        .others
        .iter()
        .filter_map(|start| {
            let same = start.phases.iter().find(|other| other.step == phase.step)?;
            same.cpu_ns()
        })
        .collect();
    if others.len() < OTHERS {
        return None;
    }
    others.sort_unstable();
    let usual = others.get(others.len() / 2).copied()?;
    (cpu >= usual.saturating_mul(FAR_ABOVE) && cpu >= usual.saturating_add(CPU_NS)).then(|| {
        warning(
            "start-phase-cpu-above-others",
            format!("{} computed far longer than in other starts", phase.step.name()),
            format!(
                "{} on the CPU; the median of {} other starts of this binary is {}",
                duration(cpu),
                others.len(),
                duration(usual)
            ),
            "What it computes depends on something that was different this time: its input, its environment, \
             a cache that was cold.",
        )
    })
}

/// How long the call that a stuck phase is in has taken.
fn unfinished_ns(start: &Start, phase: &Phase) -> u64 {
    let pending = start
        .calls_in(phase)
        .into_iter()
        .find(|(_, call)| call.call.result.is_none() && call.call.main_thread);
    pending.map_or(0, |(shared, _)| shared)
}

/// `: connect 10.0.0.1:443 (…)`: what a phase did meanwhile.
fn calls(start: &Start, phase: &Phase) -> String {
    let longest: Vec<String> = start
        .calls_in(phase)
        .into_iter()
        .take(CALLS)
        .map(|(shared, call)| told(shared, call))
        .collect();
    let begun = start.calls.iter().filter(|call| {
        call.call.name == "connect" && phase.begin_ns <= call.end_ns && call.end_ns < phase.end_ns
    });
    let connects: Vec<String> = begun
        .filter(|call| call.call.result != Some(0))
        .take(CALLS)
        .map(|call| told(call.call.duration_ns, call))
        .filter(|call| !longest.contains(call))
        .collect();
    let all: Vec<String> = longest.into_iter().chain(connects).collect();
    if all.is_empty() {
        String::new()
    } else {
        format!("; meanwhile: {}", all.join(", "))
    }
}

fn told(ns: u64, call: &CallAt) -> String {
    let on = call
        .call
        .on
        .as_deref()
        .map_or_else(String::new, |on| format!(" {on}"));
    let result = match call.call.result {
        None => ", not returned".to_owned(),
        Some(result) if result < 0 => format!(", {}", errno(result)),
        Some(_) => String::new(),
    };
    format!("{}{on} ({}{result})", call.call.name, duration(ns))
}

/// Settings that print while it starts.
fn godebug(evidence: &Evidence) -> Option<Finding> {
    let set: Vec<&str> = evidence
        .godebug?
        .split(',')
        .filter(|setting| {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            DISTORTING.contains(&name) && value != "0"
        })
        .collect();
    (!set.is_empty()).then(|| {
        warning(
            "godebug-distorts-start",
            "GODEBUG makes this start slower than it is without".to_owned(),
            format!(
                "GODEBUG has {}, which prints while the program starts",
                set.join(",")
            ),
            "Measure without it.",
        )
    })
}

/// The kernel's words for a negated errno.
pub fn errno(result: i64) -> String {
    let number = i32::try_from(result.saturating_neg()).unwrap_or(0);
    let text = std::io::Error::from_raw_os_error(number).to_string();
    // "Connection refused (os error 111)"
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests;
