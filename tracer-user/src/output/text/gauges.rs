//! Renders the runtime's gauges.

use std::fmt::Write;

use crate::document::gauges::{Goroutines, SchedulerGauges};
use crate::output::text::layout::{NO_BREAK, wrap};
use crate::output::text::units::duration;

/// Renders `goroutines: 120 live: 100 waiting, 15 runnable, 5 running`.
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

/// Renders run queues, Ps and Ms; an empty text if none of them is known.
pub fn scheduler(gauges: &SchedulerGauges) -> String {
    let mut parts = Vec::new();
    if let Some(length) = gauges.global_runq {
        let local = &gauges.local_runqs;
        let mut part = format!("run queues: global {length}");
        if !local.is_empty() {
            let sum: u64 = local.iter().map(|length| u64::from(*length)).sum();
            // Writing to a String cannot fail.
            let _ = write!(part, ", local {sum} over {} Ps", local.len());
        }
        parts.push(part);
    }
    for (count, text) in [
        (gauges.idle_ps, "idle\u{a0}Ps"),
        (gauges.idle_ms, "idle\u{a0}Ms"),
        (gauges.spinning_ms, "spinning\u{a0}Ms"),
    ] {
        if let Some(count) = count {
            parts.push(format!("{text}:{NO_BREAK}{count}"));
        }
    }
    if let Some(ns) = gauges.since_last_poll_ns {
        parts.push(format!("last network poll {} ago", duration(ns)));
    }
    if gauges.gc_waiting == Some(true) {
        parts.push("the world is stopping or stopped".to_owned());
    }
    wrap(&parts.join("; "), 0)
}
