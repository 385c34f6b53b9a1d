//! Counts errors, and logs few of them: the same one may occur thousands of times.

use std::{collections::BTreeMap, fmt::Display};

/// At most one error of a kind is logged in this time.
const PAUSE_NS: u64 = 60_000_000_000;

/// The errors so far, by kind (a short fixed name).
#[derive(Debug, Default)]
pub struct ErrorLog(BTreeMap<&'static str, Kind>);

#[derive(Debug, Default)]
struct Kind {
    count: u64,
    logged_ns: Option<u64>,
    /// How many were not logged since then.
    skipped: u64,
}

impl ErrorLog {
    /// Counts an error, and logs it if none of its kind was logged lately.
    pub fn add(&mut self, kind: &'static str, what: &dyn Display, now_ns: u64) {
        if let Some(line) = self.line(kind, what, now_ns) {
            log::warn!("{line}");
        }
    }

    /// Counts an error. Returns the line to log, unless one of its kind was logged lately.
    fn line(&mut self, kind: &'static str, what: &dyn Display, now_ns: u64) -> Option<String> {
        let entry = self.0.entry(kind).or_default();
        entry.count = entry.count.saturating_add(1);
        let is_due = entry
            .logged_ns
            .is_none_or(|at| now_ns.saturating_sub(at) >= PAUSE_NS);
        if !is_due {
            entry.skipped += 1;
            return None;
        }
        entry.logged_ns = Some(now_ns);
        Some(match std::mem::take(&mut entry.skipped) {
            0 => format!("{kind}: {what}"),
            more => format!("{kind}: {what} ({more} more of this kind since the last line)"),
        })
    }

    /// How many errors there were of each kind.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.iter().map(|(kind, entry)| (*kind, entry.count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_one_a_minute_is_logged() {
        let mut errors = ErrorLog::default();
        let mut line = |at| errors.line("unreadable", &"process 1", at);
        assert_eq!(line(0).as_deref(), Some("unreadable: process 1"));
        assert_eq!(line(1), None);
        assert_eq!(line(PAUSE_NS - 1), None);
        assert_eq!(
            line(PAUSE_NS).as_deref(),
            Some("unreadable: process 1 (2 more of this kind since the last line)")
        );
        assert!(errors.line("other", &"x", PAUSE_NS).is_some(), "kinds are apart");
        assert_eq!(errors.counts(), BTreeMap::from([("other", 1), ("unreadable", 4)]));
    }
}
