//! The runtime's gauges, in a few lines.

use std::fmt::Write;

use serde_json::Value;

use crate::document::capture::Goroutines;
use crate::output::text::layout::{NO_BREAK, wrap};
use crate::output::text::units::duration;

/// `goroutines: 120 live: 100 waiting, 15 runnable, 5 running`.
pub fn goroutines(goroutines: &Goroutines) -> String {
    let mut by_state: Vec<_> = goroutines.by_state.iter().collect();
    by_state.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let states: Vec<String> = by_state
        .iter()
        .map(|(state, count)| format!("{count}{NO_BREAK}{state}"))
        .collect();
    let about = if goroutines.estimated { "about " } else { "" };
    wrap(
        &format!(
            "goroutines: {about}{} live: {}",
            goroutines.live,
            states.join(", ")
        ),
        0,
    )
}

/// Run queues, Ps and Ms; nothing where none of them is known.
pub fn scheduler(gauges: &Value) -> String {
    let number = |name: &str| gauges.get(name).and_then(Value::as_u64);
    let mut parts = Vec::new();
    if let Some(length) = number("global_runq") {
        let local = gauges.get("local_runqs").and_then(Value::as_array);
        let mut part = format!("run queues: global {length}");
        if let Some(local) = local.filter(|local| !local.is_empty()) {
            let sum: u64 = local.iter().filter_map(Value::as_u64).sum();
            // Writing to a String cannot fail.
            let _ = write!(part, ", local {sum} over {} Ps", local.len());
        }
        parts.push(part);
    }
    for (name, text) in [
        ("idle_ps", "idle\u{a0}Ps"),
        ("idle_ms", "idle\u{a0}Ms"),
        ("spinning_ms", "spinning\u{a0}Ms"),
    ] {
        if let Some(count) = number(name) {
            parts.push(format!("{text}:{NO_BREAK}{count}"));
        }
    }
    if let Some(ns) = number("since_last_poll_ns") {
        parts.push(format!("last network poll {} ago", duration(ns)));
    }
    if gauges.get("gc_waiting") == Some(&Value::Bool(true)) {
        parts.push("the world is stopping or stopped".to_owned());
    }
    wrap(&parts.join("; "), 0)
}
