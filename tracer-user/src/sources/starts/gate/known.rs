//! Files that are known, and questions about those that are not: decides what happens to each opening.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tracer_ebpf::start::binary;

use super::group::Version;
use crate::process::file::FileId;

/// Most files that are remembered; then those that are not probed are forgotten, and asked about again.
const MOST_FILES: usize = 65_536;

/// What to do with an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Release it; if the process is followed, it runs this binary.
    Allow(u32),
    /// Ask about the file, and hold it until there is an answer.
    Ask(u64),
    /// Hold it until there is an answer to an earlier question.
    Wait(u64),
}

/// A question that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct OpenQuestion {
    file: FileId,
    version: Version,
    until: Instant,
    /// Whether openings no longer wait for the answer.
    late: bool,
}

/// The files, and the open questions.
#[derive(Debug)]
pub struct KnownFiles {
    patience: Duration,
    files: HashMap<FileId, (Version, u32)>,
    asked: HashMap<u64, OpenQuestion>,
    next: u64,
}

impl KnownFiles {
    /// Knows no file yet. Openings wait for an answer for `patience`.
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            files: HashMap::new(),
            asked: HashMap::new(),
            next: 0,
        }
    }

    /// Decides about an opening of this file by a process that is `followed` or not.
    pub fn decide(&mut self, file: FileId, version: Version, followed: bool, now: Instant) -> Decision {
        let known = self.files.get(&file).copied();
        match known {
            Some((same, binary)) if same == version => return Decision::Allow(binary),
            // The probes of the old content must be removed before anybody runs the new one.
            Some((_, binary)) if binary::is_traced(binary) => {}
            _ if !followed => return Decision::Allow(binary::UNREADY),
            _ => {}
        }
        let same = |asked: &OpenQuestion| asked.file == file && asked.version == version;
        if let Some((id, asked)) = self.asked.iter().find(|(_, asked)| same(asked)) {
            return match asked.late {
                true => Decision::Allow(binary::UNREADY),
                false => Decision::Wait(*id),
            };
        }
        let id = self.next;
        self.next += 1;
        self.asked.insert(
            id,
            OpenQuestion {
                file,
                version,
                until: now + self.patience,
                // While one answer is late, others are not waited for.
                late: self.asked.values().any(|asked| asked.late),
            },
        );
        Decision::Ask(id)
    }

    /// Whether openings do not wait for the answer to this question.
    pub fn is_late(&self, id: u64) -> bool {
        self.asked.get(&id).is_some_and(|asked| asked.late)
    }

    /// Records the answer to a question.
    pub fn answered(&mut self, id: u64, binary: u32) {
        let Some(asked) = self.asked.remove(&id) else {
            return;
        };
        if self.files.len() >= MOST_FILES {
            // Files that are probed must stay known.
            self.files.retain(|_, (_, known)| binary::is_traced(*known));
        }
        self.files.insert(asked.file, (asked.version, binary));
    }

    /// Removes a question that could not be asked: the next opening asks again.
    pub fn withdraw(&mut self, id: u64) {
        self.asked.remove(&id);
    }

    /// Forgets a file, which is not probed any more.
    pub fn forget(&mut self, file: FileId) {
        self.files.remove(&file);
    }

    /// Marks questions whose time is over as late, and returns each once.
    pub fn overdue(&mut self, now: Instant) -> Vec<u64> {
        let over = self
            .asked
            .iter_mut()
            .filter(|(_, asked)| !asked.late && asked.until <= now);
        over.map(|(id, asked)| {
            asked.late = true;
            *id
        })
        .collect()
    }

    /// How long until a question's time is over.
    pub fn next_deadline(&self, now: Instant) -> Option<Duration> {
        let waited = self.asked.values().filter(|asked| !asked.late);
        waited
            .map(|asked| asked.until.saturating_duration_since(now))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);
    const FILE: FileId = FileId { device: 1, inode: 2 };

    fn version(length: u64) -> Version {
        Version {
            changed: (1, 0),
            written: (1, 0),
            length,
        }
    }

    #[test]
    fn a_file_is_asked_about_once() {
        let (mut known, now) = (KnownFiles::new(PATIENCE), Instant::now());
        assert_eq!(known.decide(FILE, version(1), true, now), Decision::Ask(0));
        assert_eq!(known.decide(FILE, version(1), true, now), Decision::Wait(0));
        known.answered(0, 7);
        assert_eq!(known.decide(FILE, version(1), true, now), Decision::Allow(7));
        assert_eq!(known.decide(FILE, version(2), true, now), Decision::Ask(1));
    }

    #[test]
    fn a_question_that_could_not_be_asked_is_asked_by_the_next() {
        let (mut known, now) = (KnownFiles::new(PATIENCE), Instant::now());
        assert_eq!(known.decide(FILE, version(1), true, now), Decision::Ask(0));
        known.withdraw(0);
        assert_eq!(known.next_deadline(now), None);
        assert_eq!(
            known.decide(FILE, version(1), true, now + PATIENCE * 2),
            Decision::Ask(1)
        );
        assert!(!known.is_late(1), "nobody was late");
    }

    #[test]
    fn others_are_released_at_once_but_where_probes_would_hit_another_program() {
        let (mut known, now) = (KnownFiles::new(PATIENCE), Instant::now());
        let unknown = Decision::Allow(binary::UNREADY);
        assert_eq!(known.decide(FILE, version(1), false, now), unknown);
        assert_eq!(known.decide(FILE, version(1), true, now), Decision::Ask(0));
        known.answered(0, binary::NOT_TRACED);
        assert_eq!(
            known.decide(FILE, version(2), false, now),
            unknown,
            "no probe is in it"
        );
        assert_eq!(known.decide(FILE, version(2), true, now), Decision::Ask(1));
        known.answered(1, 3);
        assert_eq!(known.decide(FILE, version(2), false, now), Decision::Allow(3));
        assert_eq!(known.decide(FILE, version(3), false, now), Decision::Ask(2));
        known.forget(FILE);
        assert_eq!(known.decide(FILE, version(4), false, now), unknown);
    }

    #[test]
    fn nobody_waits_longer_than_was_said_and_later_ones_not_at_all() {
        let (mut known, now) = (KnownFiles::new(PATIENCE), Instant::now());
        let other = FileId { device: 1, inode: 3 };
        known.decide(FILE, version(1), true, now);
        assert_eq!(known.next_deadline(now), Some(PATIENCE));
        assert!(known.overdue(now).is_empty());
        assert_eq!(known.overdue(now + PATIENCE), [0]);
        assert!(known.overdue(now + PATIENCE).is_empty(), "each once");
        assert_eq!(known.next_deadline(now), None);
        assert_eq!(
            known.decide(FILE, version(1), true, now),
            Decision::Allow(binary::UNREADY)
        );
        assert_eq!(known.decide(other, version(1), true, now), Decision::Ask(1));
        assert!(known.is_late(1));
        // It has caught up.
        known.answered(0, 1);
        known.answered(1, 2);
        assert_eq!(known.decide(FILE, version(1), true, now), Decision::Allow(1));
        assert_eq!(known.decide(FILE, version(9), true, now), Decision::Ask(2));
        assert!(!known.is_late(2));
    }
}
