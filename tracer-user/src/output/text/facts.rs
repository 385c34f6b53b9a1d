//! Renders what a reader must know about the figures: sampling, cost, losses, gauges.

use crate::document::capture::{Capture, CaptureMode};
use crate::document::full::Full;
use crate::document::init::Init;
use crate::output::text::layout::{WIDTH, word, wrap};
use crate::output::text::{cost, gauges};

/// Renders the facts about a capture.
pub fn render(capture: &Capture) -> String {
    let how = &capture.capture;
    let mut text = "\n".to_owned();
    if how.sampling.is_some() && how.events > 0 {
        text.push_str(&wrap(
            "sampling: the Go runtime chose which waits it measured, about one in eight of each goroutine and \
             not uniformly: a count is not to be multiplied by 8. Voluntary yields (runtime.Gosched) are among them, \
             and cannot be distinguished; --mode exact does.",
            0,
        ));
    }
    if let Some(zeros) = capture
        .runnable_to_running
        .excluded_zero
        .filter(|zeros| *zeros > 0)
    {
        let what = match how.mode {
            CaptureMode::Passive => {
                "entries of the runtime's histogram below its first bound, which up to Go 1.25 are mostly no waits \
                 (returns from system calls, stack growth, GC)"
            }
            _ => {
                "records of 0 ns by the runtime's own clock: goroutines that had not waited (their stack was moved, \
                 the world was stopped), or less than a tick of it"
            }
        };
        text.push_str(&wrap(&format!("left out: {zeros} {what}."), 0));
    }
    text.push_str(&cost::render(capture));
    if !how.lost_by_cause.is_empty() {
        let causes: Vec<String> = how
            .lost_by_cause
            .iter()
            .map(|(cause, count)| format!("{count} {cause}"))
            .collect();
        text.push_str(&wrap(&format!("not counted: {}", causes.join(", ")), 0));
    }
    if how.lost_events > 0 {
        text.push_str(&wrap(
            &format!(
                "incomplete: {} {} are missing from these figures.",
                how.lost_events,
                if how.mode == CaptureMode::Init {
                    "marks"
                } else {
                    "waits"
                }
            ),
            0,
        ));
    } else if !how.complete {
        let start_is_missing = |init: &Init| init.unfinished > 0 || init.missed > 0;
        let why = match how.mode {
            CaptureMode::Init => "not every start that was asked for came to its end.",
            _ if capture.init.as_ref().is_some_and(start_is_missing) => "its start was not seen as a whole.",
            _ if has_unseen_places(capture) => "not every wait was seen; the notes below say why.",
            _ if !how.ended_by.target_is_there() => "the process ended before the window did.",
            _ => "not all was captured; the notes below say what is missing.",
        };
        text.push_str(&wrap(&format!("incomplete: {why}"), 0));
    }
    if how.concurrent_captures > 0 {
        text.push_str(&wrap(
            &format!(
                "{} more captures of this process ran meanwhile: their cost is in these figures.",
                how.concurrent_captures
            ),
            0,
        ));
    }
    for plugin in how.plugins.iter().filter(|plugin| plugin.problem.is_none()) {
        text.push_str(&wrap(
            &format!(
                "plugin {}: {} probed instructions",
                word(&plugin.path, WIDTH * 3 / 4),
                plugin.sites
            ),
            0,
        ));
    }
    for note in &how.notes {
        text.push_str(&wrap(&format!("note: {note}"), 0));
    }
    if let Some(goroutines) = &capture.goroutines {
        text.push_str(&gauges::goroutines(goroutines));
    }
    if let Some(scheduler) = &capture.scheduler {
        text.push_str(&gauges::scheduler(scheduler));
    }
    text
}

/// Whether waits are missing since the places where they begin or end were not all probed.
fn has_unseen_places(capture: &Capture) -> bool {
    let fits = |full: &Full| full.model.fits();
    capture.capture.plugins.iter().any(|plugin| !plugin.is_whole()) || !capture.full.as_ref().is_none_or(fits)
}
