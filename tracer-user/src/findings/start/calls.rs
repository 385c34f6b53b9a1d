//! The system calls that a phase made, as findings write them.

use crate::{
    findings::figures::milliseconds,
    model::start::{CallAt, Phase, Start},
};

/// System calls that are named with a phase.
const CALLS: usize = 3;

/// How long the main thread has been in a call of this phase that has not returned.
pub(super) fn pending_ns(start: &Start, phase: &Phase) -> u64 {
    let pending = start
        .calls_in(phase)
        .into_iter()
        .find(|(_, call)| call.call.result.is_none() && call.call.main_thread);
    pending.map_or(0, |(shared, _)| shared)
}

/// `; meanwhile: connect 10.0.0.1:443 (…)`: the longest calls of a phase, and connections that it began; empty without
/// any.
pub(super) fn meanwhile(start: &Start, phase: &Phase) -> String {
    let longest: Vec<String> = start
        .calls_in(phase)
        .into_iter()
        .take(CALLS)
        .map(|(shared, call)| describe(shared, call))
        .collect();
    let begun = start.calls.iter().filter(|call| {
        call.call.name == "connect" && phase.begin_ns <= call.end_ns && call.end_ns < phase.end_ns
    });
    let connects: Vec<String> = begun
        .filter(|call| call.call.result != Some(0))
        .take(CALLS)
        .map(|call| describe(call.call.duration_ns, call))
        .filter(|call| !longest.contains(call))
        .collect();
    let all: Vec<String> = longest.into_iter().chain(connects).collect();
    if all.is_empty() {
        String::new()
    } else {
        format!("; meanwhile: {}", all.join(", "))
    }
}

/// `connect 10.0.0.1:443 (12.0 ms, connection refused)`.
fn describe(ns: u64, call: &CallAt) -> String {
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
    format!("{}{on} ({}{result})", call.call.name, milliseconds(ns))
}

/// The C library's text for a negated errno, in lower case.
pub fn errno(result: i64) -> String {
    let number = i32::try_from(result.saturating_neg()).unwrap_or(0);
    let text = std::io::Error::from_raw_os_error(number).to_string();
    // "Connection refused (os error 111)"
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
