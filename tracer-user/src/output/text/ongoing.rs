//! Renders what had begun and was not over at the end of a capture.

use crate::document::capture::Capture;
use crate::document::ongoing::{GoroutineInState, InState, StopTheWorld};
use crate::model::ongoing::STARVED_NS;
use crate::output::text::layout::{WIDTH, word, wrap};
use crate::output::text::units::duration;

/// Most goroutines whose times are shown.
const SHOWN: usize = 3;

/// Renders it; an empty text where there is nothing.
pub fn render(capture: &Capture) -> String {
    let Some(ongoing) = &capture.ongoing else {
        return String::new();
    };
    let mut lines = Vec::new();
    lines.extend(ongoing.runnable.as_ref().and_then(runnable));
    lines.extend(ongoing.running.as_ref().and_then(running));
    lines.extend(ongoing.syscalls.as_ref().and_then(syscalls));
    lines.extend(ongoing.stop_the_world.as_ref().map(stop));
    if let Some(starts) = &ongoing.starts {
        let in_phase = starts.longest.first().map_or_else(String::new, |start| {
            format!(
                ": process {} had been in {} for at least {}",
                start.pid,
                word(&start.phase, WIDTH),
                duration(start.at_least_ns)
            )
        });
        let which = match starts.count {
            1 => "1 start was".to_owned(),
            n => format!("{n} starts were"),
        };
        lines.push(format!("{which} not over at the end{in_phase}"));
    }
    let lines: String = lines.iter().map(|line| wrap(line, 0)).collect();
    if lines.is_empty() {
        return lines;
    }
    format!("\n{lines}")
}

fn runnable(state: &InState) -> Option<String> {
    let (who, it) = match state.count {
        0 => return None,
        1 => ("1 goroutine was".to_owned(), "it is"),
        n => (format!("{n} goroutines were"), "they are"),
    };
    let mut line = format!("{who} still waiting to run at the end");
    let known = state.count.saturating_sub(state.since_unknown);
    if known > 0 {
        line.push_str(&format!(", {}", at_least(state, known)));
        line.push_str(&made_in(&state.longest));
    }
    if state.since_unknown > 0 {
        line.push_str(&match known {
            0 => ", since when is not known".to_owned(),
            _ => format!("; of {} it is not known since when", state.since_unknown),
        });
    }
    if let (Some(looked_at), Some(of)) = (state.looked_at, state.of) {
        line.push_str(&format!(" ({looked_at} of {of} goroutines were looked at)"));
    }
    line.push_str(&format!("; {it} not in the histogram"));
    Some(line)
}

/// Renders `for at least 12.0s, 8.00s and 6.10s`.
fn at_least(state: &InState, known: u64) -> String {
    let shown = state.longest.iter().take(SHOWN);
    let mut times: Vec<String> = shown.map(|goroutine| duration(goroutine.at_least_ns)).collect();
    let more = known.saturating_sub(times.len() as u64);
    if more > 0 {
        times.push(format!("as long or less ({more} more)"));
    }
    let last = times.pop().unwrap_or_default();
    match times.is_empty() {
        true => format!("for at least {last}"),
        false => format!("for at least {} and {last}", times.join(", ")),
    }
}

/// Names the function in which the goroutine that is first was made.
fn made_in(longest: &[GoroutineInState]) -> String {
    let site = |goroutine: &GoroutineInState| goroutine.creation_site.clone();
    let Some(first) = longest.first().and_then(site) else {
        return String::new();
    };
    let all = longest
        .iter()
        .all(|goroutine| site(goroutine).as_ref() == Some(&first));
    let which = if all || longest.len() == 1 {
        ""
    } else {
        "the first "
    };
    format!(" ({which}made in {})", word(&first, WIDTH))
}

fn running(state: &InState) -> Option<String> {
    let first = state.longest.first()?;
    // Shorter ones are what goroutines do.
    if first.at_least_ns < STARVED_NS {
        return None;
    }
    Some(format!(
        "{}{} had been running for at least {}",
        named(first),
        made_in(std::slice::from_ref(first)),
        duration(first.at_least_ns)
    ))
}

fn syscalls(state: &InState) -> Option<String> {
    let who = match state.count {
        0 => return None,
        1 => "1 goroutine was in a system call".to_owned(),
        n => format!("{n} goroutines were in system calls"),
    };
    let longest = state.longest_ns.map_or_else(String::new, |ns| {
        let which = if state.count == 1 { "" } else { ", the longest" };
        format!("{which} for at least {}", duration(ns))
    });
    Some(format!("{who} at the end{longest}"))
}

fn stop(stop: &StopTheWorld) -> String {
    let mut line = "the world was being stopped, or was, at the end".to_owned();
    if let Some(reason) = &stop.reason {
        line.push_str(&format!(" ({})", word(reason, WIDTH)));
    }
    match stop.at_least_ns {
        Some(ns) => line.push_str(&format!(", for at least {}", duration(ns))),
        None => line.push_str(", since when is not known"),
    }
    if let Some(ps) = stop.ps_not_stopped.filter(|ps| *ps > 0) {
        line.push_str(&format!("; Ps that had not stopped: {ps}"));
    }
    line.push_str("; its time is in no figure of pauses");
    line
}

fn named(goroutine: &GoroutineInState) -> String {
    match goroutine.goid {
        Some(goid) => format!("goroutine {goid}"),
        None => "a goroutine".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::fixtures;
    use crate::document::ongoing::{Ongoing, StartOngoing, StartsOngoing};

    fn goroutine(goid: u64, at_least_ns: u64, site: &str) -> GoroutineInState {
        GoroutineInState {
            at_least_ns,
            begin_known: true,
            goid: Some(goid),
            creation_site: Some(site.into()),
            origin: None,
        }
    }

    fn state(count: u64, since_unknown: u64, longest: &[GoroutineInState]) -> Option<InState> {
        Some(InState {
            count,
            since_unknown,
            longest_ns: longest.first().map(|first| first.at_least_ns),
            longest: longest.to_vec(),
            looked_at: None,
            of: None,
        })
    }

    /// The text without its line breaks.
    fn text(ongoing: Ongoing) -> String {
        let mut capture = fixtures::idle();
        capture.ongoing = Some(ongoing);
        let text = render(&capture);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        text.trim().replace('\n', " ")
    }

    #[test]
    fn goroutines_that_still_wait_are_shown_with_their_times() {
        let three = [
            goroutine(7, 12_000_000_000, "main.serve"),
            goroutine(8, 8_000_000_000, "main.serve"),
            goroutine(9, 6_100_000_000, "main.serve"),
        ];
        let runnable = |count, unknown, longest: &[GoroutineInState]| {
            text(Ongoing {
                runnable: state(count, unknown, longest),
                ..Ongoing::default()
            })
        };
        assert_eq!(
            runnable(3, 0, &three),
            "3 goroutines were still waiting to run at the end, for at least 12.0s, 8.00s and 6.10s (made in \
             main.serve); they are not in the histogram"
        );
        assert_eq!(
            runnable(50, 7, &three),
            "50 goroutines were still waiting to run at the end, for at least 12.0s, 8.00s, 6.10s and as long or less \
             (40 more) (made in main.serve); of 7 it is not known since when; they are not in the histogram"
        );
        assert_eq!(
            runnable(1, 1, &[]),
            "1 goroutine was still waiting to run at the end, since when is not known; it is not in the histogram"
        );
        assert_eq!(runnable(0, 0, &[]), "");
        assert_eq!(render(&fixtures::idle()), "");
    }

    #[test]
    fn a_stop_of_the_world_and_what_runs_meanwhile_are_shown() {
        let stopping = text(Ongoing {
            running: state(2, 0, &[goroutine(1, 3_000_000_000, "main.main")]),
            syscalls: state(1, 0, &[goroutine(5, 2_000_000_000, "main.main")]),
            stop_the_world: Some(StopTheWorld {
                at_least_ns: Some(2_500_000_000),
                reason: Some("read mem stats".into()),
                ps_not_stopped: Some(1),
            }),
            ..Ongoing::default()
        });
        assert_eq!(
            stopping,
            "goroutine 1 (made in main.main) had been running for at least 3.00s 1 goroutine was in a system call at the \
             end for at least 2.00s the world was being stopped, or was, at the end (read mem stats), for at \
             least 2.50s; Ps that had not stopped: 1; its time is in no figure of pauses"
        );
    }

    #[test]
    fn a_start_that_is_not_over_is_shown_with_its_phase() {
        let starts = StartsOngoing {
            count: 1,
            longest: vec![StartOngoing {
                pid: 4711,
                phase: "init:main".into(),
                at_least_ns: 2_000_000_000,
            }],
        };
        let text = text(Ongoing {
            starts: Some(starts),
            ..Ongoing::default()
        });
        assert_eq!(
            text,
            "1 start was not over at the end: process 4711 had been in init:main for at least 2.00s"
        );
    }
}
