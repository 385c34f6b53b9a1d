//! Renders what could not be decided from what the mode of a capture sees: silence must not be taken for health.

use std::collections::BTreeMap;

use crate::document::capture::{Capture, CaptureMode};
use crate::escape::Untrusted;
use crate::findings::Undecided;
use crate::output::text::layout::{WIDTH, word, wrap};
use crate::plan::Mode;

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
                true => with_reasons(&undecided),
                false => format!("{} (--mode {mode} decides)", names(&undecided)),
            },
        )
        .collect();
    let line = format!("not decided in this mode: {}", parts.join("; "));
    format!("\n{}", wrap(&line, 0))
}

fn name(undecided: &Undecided) -> String {
    word(&Untrusted::from(undecided.id.as_str()), WIDTH)
}

fn names(undecided: &[&Undecided]) -> String {
    let names: Vec<String> = undecided.iter().map(|undecided| name(undecided)).collect();
    names.join(", ")
}

/// Where the mode itself would decide, something that it needs was not asked for.
fn with_reasons(undecided: &[&Undecided]) -> String {
    let reasons: Vec<String> = undecided
        .iter()
        .map(|undecided| format!("{} ({})", name(undecided), undecided.what))
        .collect();
    reasons.join(", ")
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
            "\nnot decided in this mode: mostly-yields (--mode exact decides); long-stop,\ngc-assist (--mode full decides)\n"
        );
    }

    #[test]
    fn what_the_mode_itself_would_decide_has_its_reason() {
        let text = rendered(CaptureMode::Full, &[("noisy-neighbour", "full", "needs threads")]);
        assert_eq!(
            text,
            "\nnot decided in this mode: noisy-neighbour (needs threads)\n"
        );
    }

    #[test]
    fn a_hostile_name_stays_in_its_place() {
        let text = rendered(
            CaptureMode::Passive,
            &[("a\u{1b}[2J warning: all is lost", "full", "x")],
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(
            text.contains("a\\u{1b}[2J warning: all is lost (--mode full"),
            "{text}"
        );
    }
}
