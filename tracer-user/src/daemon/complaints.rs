//! Errors that may come a thousand times: each is counted, few are written.

use std::{collections::BTreeMap, fmt::Display};

/// After a line of one kind no other of that kind is written for so long.
const PAUSE_NS: u64 = 60_000_000_000;

/// Errors by a fixed name of their kind.
#[derive(Debug, Default)]
pub struct Complaints(BTreeMap<&'static str, Kind>);

#[derive(Debug, Default)]
struct Kind {
    count: u64,
    written_ns: Option<u64>,
    unwritten: u64,
}

impl Complaints {
    /// Counts one, and writes it if none of its kind was written lately.
    pub fn add(&mut self, kind: &'static str, what: &dyn Display, now_ns: u64) {
        if let Some(line) = self.line(kind, what, now_ns) {
            log::warn!("{line}");
        }
    }

    fn line(&mut self, kind: &'static str, what: &dyn Display, now_ns: u64) -> Option<String> {
        let entry = self.0.entry(kind).or_default();
        entry.count = entry.count.saturating_add(1);
        let is_due = entry
            .written_ns
            .is_none_or(|at| now_ns.saturating_sub(at) >= PAUSE_NS);
        if !is_due {
            entry.unwritten += 1;
            return None;
        }
        entry.written_ns = Some(now_ns);
        Some(match std::mem::take(&mut entry.unwritten) {
            0 => format!("{kind}: {what}"),
            more => format!("{kind}: {what} ({more} more of this kind since the last line)"),
        })
    }

    /// How many of each kind.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.iter().map(|(kind, entry)| (*kind, entry.count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_one_a_minute_is_written() {
        let mut complaints = Complaints::default();
        let mut line = |at| complaints.line("unreadable", &"process 1", at);
        assert_eq!(line(0).as_deref(), Some("unreadable: process 1"));
        assert_eq!(line(1), None);
        assert_eq!(line(PAUSE_NS - 1), None);
        assert_eq!(
            line(PAUSE_NS).as_deref(),
            Some("unreadable: process 1 (2 more of this kind since the last line)")
        );
        assert!(
            complaints.line("other", &"x", PAUSE_NS).is_some(),
            "kinds are apart"
        );
        assert_eq!(
            complaints.counts(),
            BTreeMap::from([("other", 1), ("unreadable", 4)])
        );
    }
}
