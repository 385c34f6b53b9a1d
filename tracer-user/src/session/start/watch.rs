//! Watches a start that has not ended: it may have forked before Go's runtime began, so that the start goes on in another
//! process, and its probes must not stay for ever.

use std::time::Duration;

use super::{Input, StartsOf, runner::Runner};
use crate::process::{children_of, file::FileState};

/// A start that has not ended after this time loses its probes. The gate's probes have the same limit.
const LONGEST_START: Duration = Duration::from_secs(300);
/// Probe hits after which a start that has not ended loses its probes. A large program's start has some thousand.
const MOST_HITS: u64 = 100_000;

impl Runner {
    /// Looks at the start of the only run of a command: whether it was forked, and whether it is to be given up.
    pub(super) fn check_start(&mut self) -> Option<Input> {
        let only = !self.policy.tree && self.policy.starts_of == StartsOf::Command { runs: 1 };
        let pid = self.held.as_ref().map(|held| held.pid).filter(|_| only)?;
        if self.source.is_none() || !self.open.is_open(pid) {
            return None;
        }
        self.note_fork(pid);
        let why = overdue(self.released?.elapsed(), self.hits)?;
        self.note(format!("{why}: its probes were removed, and it is not whole"));
        Some(Input::StartOverdue)
    }

    /// Notes once that the process has forked before Go's runtime began, and that the child runs the program, too.
    fn note_fork(&mut self, pid: u32) {
        if self.is_fork_noted || self.open.has_runtime(pid) {
            return;
        }
        let program = |pid: u32| {
            let state = FileState::known_at(&format!("/proc/{pid}/exe"));
            state.ok().map(|state| state.id)
        };
        let Some(own) = program(pid) else {
            return;
        };
        let child = children_of(pid)
            .into_iter()
            .find(|child| program(*child) == Some(own));
        if let Some(child) = child {
            self.is_fork_noted = true;
            self.note(format!(
                "process {pid} forked before Go's runtime began, and its child {child} runs the same program: if Go \
                 starts there, this start is not seen; gmpscope attach -p {child} traces what follows"
            ));
        }
    }
}

/// Says why a start is given up; `None` if it is not.
fn overdue(since: Duration, hits: u64) -> Option<String> {
    if since >= LONGEST_START {
        return Some(format!(
            "the start had not ended after {} minutes",
            LONGEST_START.as_secs() / 60
        ));
    }
    (hits >= MOST_HITS).then(|| format!("the start had not ended after {hits} probe hits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_given_up_by_time_or_by_hits() {
        let minute = Duration::from_secs(60);
        assert_eq!(overdue(minute, 5_000), None);
        assert!(overdue(5 * minute, 0).unwrap().contains("5 minutes"));
        assert!(overdue(minute, 147_253).unwrap().contains("147253 probe hits"));
    }
}
