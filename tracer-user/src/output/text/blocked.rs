//! Renders where goroutines blocked.

use std::fmt::Write;

use crate::document::blocked::{BlockedAt, Incomplete, StacksInfo, Waits};
use crate::document::full::Full;
use crate::escape::Untrusted;
use crate::output::text::layout::{WIDTH, tail, wrap};
use crate::output::text::units::duration;

/// Most places that are shown.
const PLACES: usize = 8;
/// Most calls of each place that are shown.
const CALLS: usize = 3;
/// Packages whose functions wait on behalf of others: the innermost call of any other package is shown first.
const WAITING_ROOM: [&str; 6] = ["runtime.", "internal/", "sync.", "sync/", "time.", "runtime/"];

/// Renders the places; an empty text if stacks were not captured.
pub fn render(full: &Full) -> String {
    let Some(info) = &full.stacks else {
        return String::new();
    };
    let mut text = String::new();
    if !full.blocked_at.is_empty() {
        let _ = writeln!(
            text,
            "\n{:<40} {:>8} {:>10} {:>10}",
            "blocked at", "times", "in all", "longest"
        );
    }
    for place in full.blocked_at.iter().take(PLACES) {
        text.push_str(&one(place));
    }
    text.push('\n');
    text.push_str(&whole(full, info));
    text
}

fn one(place: &BlockedAt) -> String {
    let is_waiting_room = |call: &&Untrusted| WAITING_ROOM.iter().any(|name| call.raw().starts_with(name));
    let skipped = place.stack.iter().take_while(is_waiting_room).count();
    // A goroutine of the runtime has no other calls.
    let from = if skipped == place.stack.len() { 0 } else { skipped };
    let mut text = format!(
        "{:<40} {:>8} {:>10} {:>10}\n",
        tail(&place.wait_reason.to_string(), 40),
        place.waits.all(),
        duration(place.waits.total_ns) + if place.waits.ongoing > 0 { "+" } else { "" },
        duration(place.waits.max_ns),
    );
    for call in place.stack.iter().skip(from).take(CALLS) {
        let _ = writeln!(text, "  {}", tail(&short(call).to_string(), WIDTH - 2));
    }
    let hidden = place.stack.len().saturating_sub(from + CALLS);
    let incomplete = place.incomplete.map(|why| match why {
        Incomplete::Cut => "cut",
        Incomplete::Broken => "broken",
    });
    match incomplete {
        // The rest of a complete stack is in the JSON.
        None if hidden == 0 => {}
        None => {
            let _ = writeln!(text, "  .. {hidden} more");
        }
        Some(why) => {
            let _ = writeln!(text, "  .. {hidden} more, and others that are not known ({why})");
        }
    }
    if let Some(created) = &place.created_at {
        let _ = writeln!(
            text,
            "  made by {}",
            tail(&short(created).to_string(), WIDTH - 10)
        );
    }
    text
}

/// Shortens a call: its file without the path, since paths are long.
fn short(call: &Untrusted) -> Untrusted {
    match call.raw().rsplit_once(' ') {
        Some((function, place)) => {
            let file = place.rsplit('/').next().unwrap_or(place);
            format!("{function} {file}").into()
        }
        None => call.clone(),
    }
}

fn whole(full: &Full, info: &StacksInfo) -> String {
    let described = |waits: &Waits| format!("{} waits of {} in all", waits.all(), duration(waits.total_ns));
    let hidden = full.blocked_at.iter().skip(PLACES);
    let (places, rest) = hidden.fold((info.other_places, info.other), |(places, rest), place| {
        let waits = &place.waits;
        let rest = Waits {
            count: rest.count.saturating_add(waits.count),
            ongoing: rest.ongoing.saturating_add(waits.ongoing),
            total_ns: rest.total_ns.saturating_add(waits.total_ns),
            max_ns: rest.max_ns.max(waits.max_ns),
        };
        (places.saturating_add(1), rest)
    });
    let mut line = format!(
        "stacks: {} different ones of {} times that a goroutine blocked; {places} places are not shown ({})",
        info.different,
        info.walked,
        described(&rest)
    );
    if info.unknown.all() > 0 {
        let _ = write!(line, "; not known where: {}", described(&info.unknown));
    }
    if info.lost_full > 0 {
        let _ = write!(
            line,
            "; lost {} times, since the table was full (--stacks=N makes it larger)",
            info.lost_full
        );
    }
    if info.lost_unreadable > 0 {
        let _ = write!(line, "; could not be read {} times", info.lost_unreadable);
    }
    wrap(&line, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(stack: &[&str], incomplete: Option<Incomplete>, count: u64, ongoing: u64) -> BlockedAt {
        BlockedAt {
            stack: stack.iter().map(|call| (*call).into()).collect(),
            incomplete,
            wait_reason: "chan receive".into(),
            created_at: Some("main.start /src/main.go:5".into()),
            waits: Waits {
                count,
                ongoing,
                total_ns: 3_000_000,
                max_ns: 2_000_000,
            },
        }
    }

    fn rendered(blocked_at: Vec<BlockedAt>) -> String {
        render(&Full {
            blocked_at,
            stacks: Some(StacksInfo {
                walked: 20,
                different: 3,
                lost_full: 4,
                other_places: 2,
                other: Waits {
                    count: 5,
                    ..Waits::default()
                },
                unknown: Waits {
                    ongoing: 6,
                    ..Waits::default()
                },
                ..StacksInfo::default()
            }),
            ..Full::default()
        })
    }

    #[test]
    fn the_first_call_is_one_of_the_program() {
        let whole = place(
            &[
                "runtime.chanrecv /go/src/runtime/chan.go:1",
                "main.a /src/a.go:2",
                "main.b /src/b.go:3",
            ],
            None,
            7,
            1,
        );
        let own = place(&["runtime.bgsweep /go/src/runtime/mgcsweep.go:9"], None, 1, 0);
        let text = rendered(vec![whole, own]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1..9],
            [
                "blocked at                                  times     in all    longest",
                "chan receive                                    8    3.00ms+     2.00ms",
                "  main.a a.go:2",
                "  main.b b.go:3",
                "  made by main.start main.go:5",
                "chan receive                                    1     3.00ms     2.00ms",
                "  runtime.bgsweep mgcsweep.go:9",
                "  made by main.start main.go:5",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let long = "main.with_a_name_of_some_length_".repeat(4) + " /src/main.go:1";
        let cut = place(
            &[
                &long,
                "main.\u{1b}[31m /src/red.go:2",
                "main.c",
                "main.d",
                "main.e",
            ],
            Some(Incomplete::Cut),
            1,
            0,
        );
        let deep = place(&["main.a", "main.b", "main.c", "main.d"], None, 1, 0);
        let mut places = vec![cut, deep];
        places.extend((0..PLACES).map(|_| place(&["main.f /src/f.go:1"], None, 1, 0)));
        let text = rendered(places);
        let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for said in [
            ".. 2 more, and others that are not known (cut)",
            ".. 1 more made by",
            "stacks: 3 different ones of 20 times that a goroutine blocked",
            // Two of ten, and those that the JSON does not have either.
            "4 places are not shown (7 waits of",
            "not known where: 6 waits of",
            "lost 4 times, since the table was full (--stacks=N makes it larger)",
        ] {
            assert!(one_line.contains(said), "no `{said}` in {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn without_stacks_nothing_is_said() {
        assert_eq!(render(&Full::default()), "");
    }
}
