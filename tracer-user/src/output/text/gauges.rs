//! Renders the runtime's gauges.

use std::fmt::Write;

use crate::document::gauges::{Goroutines, Range, SchedulerGauges};
use crate::output::text::layout::{NO_BREAK, wrap};
use crate::output::text::units::duration;

/// Renders `goroutines: 120 live: 100 waiting, 15 runnable, 5 running`, and says which of the figures are estimates.
pub fn goroutines(goroutines: &Goroutines) -> String {
    let mut by_state: Vec<_> = goroutines.by_state.iter().collect();
    by_state.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let ranges = &goroutines.by_state_range;
    let states: Vec<String> = by_state
        .iter()
        .map(|(state, count)| match ranges.get(*state) {
            Some(range) => format!(
                "about{NO_BREAK}{count}{NO_BREAK}{state}{NO_BREAK}({})",
                ends(*range)
            ),
            None => format!("{count}{NO_BREAK}{state}"),
        })
        .collect();
    // Without intervals the estimate is that of an earlier version, which scaled the sum up, too.
    let is_scaled = goroutines.estimated && ranges.is_empty() && !states.is_empty();
    let live = match goroutines.live_range {
        Some(range) => format!("about {} ({})", goroutines.live, ends(range)),
        None if is_scaled => format!("about {}", goroutines.live),
        None => goroutines.live.to_string(),
    };
    let user = goroutines
        .user
        .map_or_else(String::new, |user| format!(" ({user} by runtime.NumGoroutine)"));
    let states = match states.as_slice() {
        [] if goroutines.estimated => {
            "; none of them is in the sample that was read, so that their states are not known".to_owned()
        }
        [] => String::new(),
        states => format!(": {}", states.join(", ")),
    };
    wrap(&format!("goroutines: {live} live{user}{states}"), 0)
}

fn ends(range: Range) -> String {
    format!("{}{NO_BREAK}to{NO_BREAK}{}", range.low, range.high)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn of(estimated: bool, states: &[(&str, u64)], ranges: &[(&str, u64, u64)]) -> Goroutines {
        Goroutines {
            live: 7,
            by_state: states
                .iter()
                .map(|(state, count)| ((*state).into(), *count))
                .collect(),
            estimated,
            by_state_range: ranges
                .iter()
                .map(|(state, low, high)| ((*state).into(), Range::from((*low, *high))))
                .collect::<BTreeMap<_, _>>(),
            ..Goroutines::default()
        }
    }

    #[test]
    fn what_is_estimated_is_said_of_each_figure() {
        let states = [("syscall", 1), ("waiting", 6)];
        let all = Goroutines {
            user: Some(3),
            ..of(false, &states, &[])
        };
        assert_eq!(
            goroutines(&all),
            "goroutines: 7 live (3 by runtime.NumGoroutine): 6 waiting, 1 syscall\n"
        );
        assert_eq!(
            goroutines(&of(true, &states[1..], &[("waiting", 1, 7)])),
            "goroutines: 7 live: about 6 waiting (1 to 7)\n"
        );
        let unknown = Goroutines {
            live_range: Some(Range::from((5, 9))),
            ..of(true, &states[1..], &[("waiting", 4, 8)])
        };
        assert_eq!(
            goroutines(&unknown),
            "goroutines: about 7 (5 to 9) live: about 6 waiting (4 to 8)\n"
        );
        // As earlier versions wrote it.
        assert_eq!(
            goroutines(&of(true, &states, &[])),
            "goroutines: about 7 live: 6 waiting, 1 syscall\n"
        );
        assert!(goroutines(&of(true, &[], &[])).starts_with("goroutines: 7 live; none of them"));
    }
}
