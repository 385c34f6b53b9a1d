//! Renders what could not be decided from what the mode of a capture sees: silence must not be taken for health.

use std::collections::BTreeMap;

use crate::document::capture::{Capture, CaptureMode};
use crate::escape::Untrusted;
use crate::findings::Undecided;
use crate::output::text::layout::{WIDTH, word, wrap};
use crate::plan::Mode;

/// Where each rule is described.
const SEE: &str = "(see docs/findings.md)";

/// Renders the names of the rules, by the mode that decides them; nothing where all were decided.
pub fn render(capture: &Capture) -> String {
    if capture.undecided.is_empty() {
        return String::new();
    }
    let mut by_mode: BTreeMap<Mode, Vec<&Undecided>> = BTreeMap::new();
    for undecided in &capture.undecided {
        by_mode.entry(undecided.mode).or_default().push(undecided);
    }
    let parts: Vec<String> = by_mode
        .into_iter()
        .map(
            |(mode, undecided)| match CaptureMode::from(mode) == capture.capture.mode {
                true => format!("not decided: {}", with_reasons(&undecided)),
                false => format!("{} --mode {mode}: {}", need(undecided.len()), names(&undecided)),
            },
        )
        .collect();
    format!("\n{}", wrap(&format!("{} {SEE}", parts.join("; ")), 0))
}

/// `1 finding needs`, `2 findings need`.
fn need(count: usize) -> String {
    match count {
        1 => "1 finding needs".to_owned(),
        n => format!("{n} findings need"),
    }
}

fn name(undecided: &Undecided) -> String {
    word(&Untrusted::from(undecided.id.as_str()), WIDTH)
}

fn names(undecided: &[&Undecided]) -> String {
    let names: Vec<String> = undecided.iter().map(|undecided| name(undecided)).collect();
    names.join(", ")
}

/// Where the mode itself would decide, something that it needs was not asked for. Each reason is named once.
fn with_reasons(undecided: &[&Undecided]) -> String {
    let mut by_reason: Vec<(String, Vec<&Undecided>)> = Vec::new();
    for &undecided in undecided {
        let reason = reason(undecided);
        match by_reason.iter_mut().find(|(of, _)| *of == reason) {
            Some((_, others)) => others.push(undecided),
            None => by_reason.push((reason, vec![undecided])),
        }
    }
    let parts: Vec<String> = by_reason
        .iter()
        .map(|(reason, undecided)| format!("{} ({reason})", names(undecided)))
        .collect();
    parts.join(", ")
}

/// Why a rule is not decided: what its text has behind a colon, otherwise the whole text.
fn reason(undecided: &Undecided) -> String {
    let what = undecided.what.to_string();
    match what.rsplit_once(": ") {
        Some((_, reason)) => reason.to_owned(),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::fixtures;

    /// `(name, mode, what)` of each.
    fn rendered(mode: CaptureMode, undecided: &[(&str, &str, &str)]) -> String {
        let all: Vec<_> = undecided
            .iter()
            .map(|(id, mode, what)| serde_json::json!({ "id": id, "mode": mode, "what": what }))
            .collect();
        let mut capture = fixtures::idle();
        capture.capture.mode = mode;
        capture.undecided = serde_json::from_value(serde_json::Value::Array(all)).unwrap();
        render(&capture)
    }

    #[test]
    fn rules_are_named_with_the_mode_that_decides() {
        assert_eq!(rendered(CaptureMode::Passive, &[]), "");
        let text = rendered(
            CaptureMode::Passive,
            &[
                ("long-stop", "full", "how long stops took"),
                ("mostly-yields", "exact", "how many waits are yields"),
                ("gc-assist", "full", "whether goroutines wait"),
            ],
        );
        assert_eq!(
            text,
            "\n1 finding needs --mode exact: mostly-yields; 2 findings need --mode full:\n\
             long-stop, gc-assist (see docs/findings.md)\n"
        );
    }

    #[test]
    fn what_the_mode_itself_would_decide_has_its_reason() {
        let text = rendered(
            CaptureMode::Full,
            &[
                ("noisy-neighbour", "full", "whether it waits: needs threads"),
                ("gc-assist", "full", "how long it waits"),
                ("not-preemptible", "full", "whether it runs: needs threads"),
            ],
        );
        assert_eq!(
            text,
            "\nnot decided: noisy-neighbour, not-preemptible (needs threads), gc-assist (how\n\
             long it waits) (see docs/findings.md)\n"
        );
    }

    #[test]
    fn a_hostile_name_stays_in_its_place() {
        let text = rendered(
            CaptureMode::Passive,
            &[("a\u{1b}[2J warning: all is lost", "full", "x")],
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(text.contains(": a\\u{1b}[2J warning: all is lost (see"), "{text}");
    }
}
