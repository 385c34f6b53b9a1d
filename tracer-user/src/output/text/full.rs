//! Renders what `full` adds to a capture.

use std::fmt::Write;

use crate::document::capture::Capture;
use crate::document::full::Full;
use crate::document::gauges::RuntimePauses;
use crate::output::options::SplitBy;
use crate::output::text::blocked;
use crate::output::text::layout::{WIDTH, tail, word, wrap};
use crate::output::text::table::{rows, table};
use crate::output::text::units::{duration, percent};

/// Most lines of each table.
const LINES: usize = 8;

/// Renders the parts that only `full` has; an empty text in other modes. Times by wait reason are left out where they are
/// what `by` has shown already.
pub fn render(capture: &Capture, by: SplitBy) -> String {
    let Some(full) = &capture.full else {
        return String::new();
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    if !capture.by_wait_reason.is_empty() && by != SplitBy::WaitReason {
        let _ = write!(
            text,
            "\n{}",
            table("waited for", &rows(&capture.by_wait_reason), LINES)
        );
    }
    text.push_str(&longest(full));
    text.push_str(&blocked::render(full));
    text.push_str(&processors(full, capture.capture.duration_ns));
    text.push_str(&over_time(full));
    text.push('\n');
    text.push_str(&states(full));
    text.push_str(&machines(full));
    text.push_str(&world(full, capture.pauses.as_ref()));
    text.push_str(&churn(capture, full));
    text.push_str(&model(full));
    text
}

fn longest(full: &Full) -> String {
    if full.longest_waits.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{:<24} {:>8} {:>10} {:>10} made in\n",
        "longest waits, for", "took", "began at", "goroutine"
    );
    for wait in full.longest_waits.iter().take(LINES) {
        let goid = wait.goid.map_or_else(|| "-".to_owned(), |goid| goid.to_string());
        let took = duration(wait.duration_ns) + if wait.ongoing { "+" } else { "" };
        let began = wait.at_ns.map_or_else(
            || "before".to_owned(),
            |at_ns| format!("{:.3}s", at_ns as f64 / 1e9),
        );
        let line = format!(
            "{:<24} {:>8} {:>10} {:>10} ",
            tail(&wait.reason.to_string(), 24),
            took,
            began,
            goid
        );
        let room = WIDTH.saturating_sub(line.chars().count()).max(8);
        let site = wait.creation_site.as_ref();
        let site = site.map_or_else(|| "-".to_owned(), |site| tail(&site.to_string(), room));
        let _ = writeln!(text, "{line}{site}");
    }
    if full.longest_waits.iter().take(LINES).any(|wait| wait.ongoing) {
        text.push_str("(+: still waits; before: it was not seen to begin, and took at least so long)\n");
    }
    text
}

fn processors(full: &Full, window_ns: u64) -> String {
    if full.processors.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{:>4} {:>6} {:>6} {:>10} {:>11} {:>10} {:>9}\n",
        "P", "busy", "held", "acquired", "handed off", "mean runq", "max runq"
    );
    for p in full.processors.iter().take(4 * LINES) {
        let _ = writeln!(
            text,
            "{:>4} {:>5.1}% {:>6} {:>10} {:>11} {:>10} {:>9}",
            p.id,
            p.utilization * 100.0,
            percent(p.held_ns.min(window_ns), window_ns),
            p.acquired,
            p.handed_off,
            p.mean_runq
                .map_or_else(|| "-".to_owned(), |mean| format!("{mean:.1}")),
            p.max_runq.map_or_else(|| "-".to_owned(), |most| most.to_string()),
        );
    }
    if full.processors.len() > 4 * LINES {
        let _ = writeln!(text, "({} more)", full.processors.len() - 4 * LINES);
    }
    text
}

/// Characters for counts, from none to the largest count.
const SHADES: [char; 8] = [' ', '.', ':', '-', '=', '+', '#', '@'];

/// Renders the number of goroutines in each state over time, one character for each moment.
fn over_time(full: &Full) -> String {
    let Some(over_time) = &full.over_time else {
        return String::new();
    };
    let mut text = format!(
        "\n{:<10} {:>7} {:>7} |one column is {}\n",
        "goroutines",
        "least",
        "most",
        duration(over_time.step_ns)
    );
    for (state, counts) in &over_time.goroutines {
        let most = counts.iter().copied().max().unwrap_or(0);
        let least = counts.iter().copied().min().unwrap_or(0);
        let shade = |count: &u64| {
            // Rounded up, so that any count above 0 is visible.
            let steps = (SHADES.len() - 1) as u64;
            let place = count.saturating_mul(steps).div_ceil(most.max(1)).min(steps);
            SHADES[place as usize]
        };
        let line: String = counts.iter().map(shade).collect();
        let _ = writeln!(text, "{state:<10} {least:>7} {most:>7} |{}|", line);
    }
    text
}

fn states(full: &Full) -> String {
    let total = full
        .time_in_state_ns
        .values()
        .fold(0u64, |sum, ns| sum.saturating_add(*ns));
    let mut states: Vec<_> = full.time_in_state_ns.iter().collect();
    states.sort_by_key(|(_, ns)| std::cmp::Reverse(**ns));
    let parts: Vec<String> = states
        .into_iter()
        .map(|(state, ns)| format!("{state} {} ({})", percent(*ns, total), duration(*ns)))
        .collect();
    wrap(&format!("time of all goroutines: {}", parts.join(", ")), 0)
}

fn machines(full: &Full) -> String {
    let machines = &full.machines;
    let mut line = format!(
        "threads: {} known, {} asleep for want of work; {} began, {} ended; {} times one went to sleep",
        machines.known, machines.parked, machines.started, machines.ended, machines.parks
    );
    let because = &machines.created_because;
    if !because.is_empty() {
        let _ = write!(
            line,
            "; made: {} to look for work, {} for a P whose thread was blocked, {} for something else",
            because.spinning, because.handed_off, because.other
        );
    }
    let time = &machines.thread_time_ns;
    if !time.is_empty() {
        let _ = write!(
            line,
            "; as Linux has it they were on a CPU for {}, waited for one for {}",
            duration(time.on_cpu),
            duration(time.waiting_for_cpu)
        );
    }
    wrap(&line, 0)
}

/// Renders the garbage collector and the stopped world. `own` are the pauses as the runtime itself counts them, which is
/// the same thing as the events' pauses, and not the same as the time that the world stood still.
fn world(full: &Full, own: Option<&RuntimePauses>) -> String {
    let world = &full.world;
    if [world.gc_cycles, world.stops, world.gomaxprocs_set] == [0; 3] {
        return String::new();
    }
    let mut line = format!(
        "garbage collection: {} cycles, marking for {}; the world was stopped {} times for {}",
        world.gc_cycles,
        duration(world.gc_ns),
        world.stops,
        duration(world.stopped_ns)
    );
    const GIVEN_OUT: &str = "until its Ps had been given out again";
    let seen = world.pauses.map(|pauses| duration(pauses.total_ns));
    let own = own.filter(|own| own.count.sum() > 0);
    let counted = own.map(|own| {
        let stopping = own.stopping_ns.map_or_else(String::new, |stopping| {
            format!(", of it {} until every P had stopped", duration(stopping.sum()))
        });
        let (count, total) = (own.count.sum(), duration(own.total_ns.sum()));
        (format!("{count} pauses of about {total}"), stopping)
    });
    // Writing to a String cannot fail.
    let _ = match (seen, counted) {
        (Some(seen), Some((counted, stopping))) => write!(
            line,
            ", {seen} {GIVEN_OUT} (by the runtime's own count {counted}{stopping})"
        ),
        (Some(seen), None) => write!(line, ", {seen} {GIVEN_OUT}"),
        (None, Some((counted, stopping))) => write!(
            line,
            "; by the runtime's own count {counted} {GIVEN_OUT}{stopping}"
        ),
        (None, None) => Ok(()),
    };
    if world.gomaxprocs_set > 0 {
        let _ = write!(line, "; GOMAXPROCS was changed {} times", world.gomaxprocs_set);
    }
    wrap(&line, 0)
}

fn churn(capture: &Capture, full: &Full) -> String {
    let mut text = String::new();
    if let Some(goroutines) = &capture.goroutines
        && let (Some(created), Some(exited)) = (goroutines.created, goroutines.exited)
        && (created > 0 || exited > 0)
    {
        let busiest = full.churn.first().map_or_else(String::new, |churn| {
            format!(
                ", most of them in {} ({} and {})",
                word(&churn.creation_site, WIDTH),
                churn.created,
                churn.exited
            )
        });
        text.push_str(&wrap(
            &format!("churn: {created} goroutines made, {exited} ended{busiest}"),
            0,
        ));
    }
    for churn in full.churn.iter().filter(|churn| churn.grows).take(LINES) {
        text.push_str(&wrap(
            &format!(
                "may leak: {} made {} goroutines of which {} ended",
                word(&churn.creation_site, WIDTH),
                churn.created,
                churn.exited
            ),
            0,
        ));
    }
    text
}

fn model(full: &Full) -> String {
    let model = &full.model;
    let mut line = format!("transitions: {} seen, {} lost", model.transitions, model.lost);
    let _ = write!(line, "; {} that did not fit", model.misfits());
    if !model.inferred.is_empty() {
        let kinds: Vec<String> = model
            .inferred
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let _ = write!(line, " ({})", kinds.join(", "));
    }
    if model.inferred_after_loss > 0 {
        let _ = write!(line, "; {} inferred after losses", model.inferred_after_loss);
    }
    match model.valid_from_ns {
        Some(ns) => {
            let _ = write!(line, "; all states are known since {}", duration(ns));
        }
        None => line.push_str("; states are not known since the last loss"),
    }
    wrap(&line, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::full::{EventPauses, WorldInfo};
    use crate::document::gauges::ByPurpose;

    #[test]
    fn both_figures_of_pauses_are_named() {
        let text = |pauses, own: Option<&RuntimePauses>| {
            let full = Full {
                world: WorldInfo {
                    gc_cycles: 24,
                    gc_ns: 42_900_000,
                    stops: 48,
                    stopped_ns: 3_830_000,
                    pauses,
                    gomaxprocs_set: 0,
                },
                ..Full::default()
            };
            world(&full, own).replace('\n', " ")
        };
        let seen = Some(EventPauses {
            count: 48,
            total_ns: 11_900_000,
        });
        let own = RuntimePauses {
            window_ns: 300_000_000,
            count: ByPurpose { gc: 46, other: 0 },
            stopping_ns: Some(ByPurpose {
                gc: 2_100_000,
                other: 0,
            }),
            total_ns: ByPurpose {
                gc: 11_600_000,
                other: 0,
            },
        };
        let begin =
            "garbage collection: 24 cycles, marking for 42.9ms; the world was stopped 48 times for 3.83ms";
        assert_eq!(text(None, None), format!("{begin} "));
        assert_eq!(
            text(seen, None),
            format!("{begin}, 11.9ms until its Ps had been given out again ")
        );
        assert_eq!(
            text(seen, Some(&own)),
            format!(
                "{begin}, 11.9ms until its Ps had been given out again (by the runtime's own count 46 pauses of about \
                 11.6ms, of it 2.10ms until every P had stopped) "
            )
        );
        assert_eq!(
            text(None, Some(&own)),
            format!(
                "{begin}; by the runtime's own count 46 pauses of about 11.6ms until its Ps had been given out again, of \
                 it 2.10ms until every P had stopped "
            )
        );
    }
}
