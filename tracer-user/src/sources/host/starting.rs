//! Which binary a process runs is known when its ELF entry is reached: until then its marks are kept.

use std::collections::BTreeMap;

use tracer_ebpf::start::{Mark, NO_TARGET, StartEvent};

/// Most processes whose marks are kept at once.
const MOST: usize = 4_096;
/// A process that has not come to its ELF entry after so long runs another program; in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Processes that have called `execve`, and may run a binary that is meant.
#[derive(Default)]
pub struct Starting(BTreeMap<u32, Vec<StartEvent>>);

impl Starting {
    /// Takes in a mark. Once the binary is known, its slot comes back, and all that was seen of the process.
    pub fn take(&mut self, event: StartEvent) -> Option<(u32, Vec<StartEvent>)> {
        if event.target != NO_TARGET {
            let mut all = self.0.remove(&event.tgid).unwrap_or_default();
            all.push(event);
            return Some((event.target, all));
        }
        if event.mark == Mark::Exited as u32 {
            self.0.remove(&event.tgid);
            return None;
        }
        if self.0.len() >= MOST && !self.0.contains_key(&event.tgid) {
            self.forget_oldest();
        }
        let kept = self.0.entry(event.tgid).or_default();
        let executed = Mark::Executed as u32;
        let again = event.mark == executed && kept.last().is_some_and(|last| last.mark == executed);
        // Also the second attempt of one that failed.
        if again || event.mark == Mark::ExecPrepared as u32 {
            kept.clear();
        }
        kept.push(event);
        None
    }

    /// Forgets processes that run another program; returns their tgids.
    pub fn forget_others(&mut self, now_ns: u64) -> Vec<u32> {
        let is_old = |events: &[StartEvent]| {
            let last = events.last().map_or(0, |event| event.at_ns);
            now_ns.saturating_sub(last) > LONGEST
        };
        let old: Vec<u32> = self
            .0
            .iter()
            .filter(|(_, events)| is_old(events))
            .map(|(tgid, _)| *tgid)
            .collect();
        for tgid in &old {
            self.0.remove(tgid);
        }
        old
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .0
            .iter()
            .min_by_key(|(_, events)| events.last().map(|event| event.at_ns))
            .map(|(tgid, _)| *tgid);
        if let Some(tgid) = oldest {
            self.0.remove(&tgid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(tgid: u32, mark: Mark, target: u32, at_ns: u64) -> StartEvent {
        StartEvent {
            at_ns,
            tgid,
            mark: mark as u32,
            target,
            ..StartEvent::default()
        }
    }

    fn marks(of: Option<(u32, Vec<StartEvent>)>) -> (u32, Vec<u64>) {
        let (target, events) = of.unwrap();
        (target, events.iter().map(|event| event.at_ns).collect())
    }

    #[test]
    fn marks_before_the_entry_come_with_it_to_the_right_binary() {
        let mut starting = Starting::default();
        assert_eq!(starting.take(event(1, Mark::ExecPrepared, NO_TARGET, 1)), None);
        assert_eq!(starting.take(event(2, Mark::ExecPrepared, NO_TARGET, 2)), None);
        assert_eq!(starting.take(event(1, Mark::Executed, NO_TARGET, 3)), None);
        assert_eq!(starting.take(event(2, Mark::Executed, NO_TARGET, 4)), None);
        assert_eq!(
            marks(starting.take(event(2, Mark::Entry, 7, 5))),
            (7, vec![2, 4, 5])
        );
        assert_eq!(
            marks(starting.take(event(1, Mark::Entry, 8, 6))),
            (8, vec![1, 3, 6])
        );
        assert_eq!(marks(starting.take(event(1, Mark::OsInit, 8, 7))), (8, vec![7]));
    }

    #[test]
    fn an_exec_that_failed_or_came_before_is_not_part_of_a_start() {
        let mut starting = Starting::default();
        starting.take(event(1, Mark::ExecPrepared, NO_TARGET, 1));
        starting.take(event(1, Mark::ExecPrepared, NO_TARGET, 2));
        starting.take(event(1, Mark::Executed, NO_TARGET, 3));
        assert_eq!(
            marks(starting.take(event(1, Mark::Entry, 0, 4))),
            (0, vec![2, 3, 4])
        );
        // Without sched_prepare_exec.
        starting.take(event(2, Mark::Executed, NO_TARGET, 5));
        starting.take(event(2, Mark::Executed, NO_TARGET, 6));
        assert_eq!(marks(starting.take(event(2, Mark::Entry, 0, 7))), (0, vec![6, 7]));
    }

    #[test]
    fn processes_that_run_something_else_are_forgotten() {
        let mut starting = Starting::default();
        starting.take(event(1, Mark::Executed, NO_TARGET, 0));
        starting.take(event(2, Mark::Executed, NO_TARGET, LONGEST));
        assert_eq!(starting.forget_others(LONGEST + 1), [1]);
        assert_eq!(starting.forget_others(LONGEST + 1), [] as [u32; 0]);
        starting.take(event(2, Mark::Exited, NO_TARGET, LONGEST));
        assert_eq!(starting.0.len(), 0);
        for tgid in 0..2 * MOST as u32 {
            starting.take(event(tgid, Mark::Executed, NO_TARGET, u64::from(tgid)));
        }
        assert_eq!(starting.0.len(), MOST);
        assert!(
            starting.0.contains_key(&(2 * MOST as u32 - 1)),
            "the newest stays"
        );
    }
}
