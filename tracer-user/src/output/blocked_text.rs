//! Where goroutines blocked, as people read it.

use std::fmt::Write;

use super::blocked::{BlockedAt, StacksInfo, Waits};
use super::escape::escape;
use super::full::Full;
use super::layout::{WIDTH, tail, wrap};
use super::units::duration;

/// Places that are shown.
const PLACES: usize = 8;
/// Calls of each that are shown.
const CALLS: usize = 3;
/// Packages whose functions do the waiting for others: the first call of another says where it is.
const WAITING_ROOM: [&str; 6] = ["runtime.", "internal/", "sync.", "sync/", "time.", "runtime/"];

/// The places; nothing where no stacks were told.
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
    let is_waiting_room = |call: &&String| WAITING_ROOM.iter().any(|name| call.starts_with(name));
    let skipped = place.stack.iter().take_while(is_waiting_room).count();
    // A goroutine of the runtime's own has no other.
    let from = if skipped == place.stack.len() { 0 } else { skipped };
    let mut text = format!(
        "{:<40} {:>8} {:>10} {:>10}\n",
        tail(&escape(&place.wait_reason), 40),
        place.waits.count + place.waits.ongoing,
        duration(place.waits.total_ns) + if place.waits.ongoing > 0 { "+" } else { "" },
        duration(place.waits.max_ns),
    );
    for call in place.stack.iter().skip(from).take(CALLS) {
        let _ = writeln!(text, "  {}", tail(&escape(&short(call)), WIDTH - 2));
    }
    let hidden = place.stack.len().saturating_sub(from + CALLS);
    match place.incomplete.as_deref() {
        // Of whole stacks the rest is in the JSON.
        None if hidden == 0 => {}
        None => {
            let _ = writeln!(text, "  .. {hidden} more");
        }
        Some(why) => {
            let _ = writeln!(text, "  .. {hidden} more, and others that are not known ({why})");
        }
    }
    if let Some(created) = &place.created_at {
        let _ = writeln!(text, "  made by {}", tail(&escape(&short(created)), WIDTH - 10));
    }
    text
}

/// A call with the name of its file alone, since paths are long.
fn short(call: &str) -> String {
    match call.rsplit_once(' ') {
        Some((function, place)) => {
            let file = place.rsplit('/').next().unwrap_or(place);
            format!("{function} {file}")
        }
        None => call.to_owned(),
    }
}

fn whole(full: &Full, info: &StacksInfo) -> String {
    let told = |waits: &Waits| {
        format!(
            "{} waits of {} in all",
            waits.count + waits.ongoing,
            duration(waits.total_ns)
        )
    };
    let hidden = full.blocked_at.iter().skip(PLACES);
    let (places, rest) = hidden.fold((info.other_places, info.other), |(places, rest), place| {
        let waits = &place.waits;
        let rest = Waits {
            count: rest.count + waits.count,
            ongoing: rest.ongoing + waits.ongoing,
            total_ns: rest.total_ns.saturating_add(waits.total_ns),
            max_ns: rest.max_ns.max(waits.max_ns),
        };
        (places + 1, rest)
    });
    let mut line = format!(
        "stacks: {} different ones of {} times that a goroutine blocked; {places} places are not shown ({})",
        info.different,
        info.walked,
        told(&rest)
    );
    if info.unknown.count + info.unknown.ongoing > 0 {
        let _ = write!(line, "; not known where: {}", told(&info.unknown));
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
