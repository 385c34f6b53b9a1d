//! Marks of processes whose binary is not known yet, which it is when the process reaches its ELF entry.

use std::collections::BTreeMap;

use tracer_ebpf::start::{Mark, NO_TARGET, StartEvent};

/// Most processes whose marks are kept at once.
const MOST: usize = 4_096;
/// Nanoseconds after which a process that has not reached a probed ELF entry is taken to run another program.
const LONGEST: u64 = 60_000_000_000;

/// Marks of processes that have called `execve` and may run a timed binary, by tgid.
#[derive(Default)]
pub struct PendingMarks(BTreeMap<u32, Vec<StartEvent>>);

impl PendingMarks {
    /// Takes in a mark. Once the binary is known, returns its slot, and all marks of the process.
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
        // Also when a failed `execve` is tried again.
        if again || event.mark == Mark::ExecPrepared as u32 {
            kept.clear();
        }
        kept.push(event);
        None
    }

    /// Forgets processes that run another program, and returns their tgids.
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
        let mut pending = PendingMarks::default();
        assert_eq!(pending.take(event(1, Mark::ExecPrepared, NO_TARGET, 1)), None);
        assert_eq!(pending.take(event(2, Mark::ExecPrepared, NO_TARGET, 2)), None);
        assert_eq!(pending.take(event(1, Mark::Executed, NO_TARGET, 3)), None);
        assert_eq!(pending.take(event(2, Mark::Executed, NO_TARGET, 4)), None);
        assert_eq!(
            marks(pending.take(event(2, Mark::Entry, 7, 5))),
            (7, vec![2, 4, 5])
        );
        assert_eq!(
            marks(pending.take(event(1, Mark::Entry, 8, 6))),
            (8, vec![1, 3, 6])
        );
        assert_eq!(marks(pending.take(event(1, Mark::OsInit, 8, 7))), (8, vec![7]));
    }

    #[test]
    fn an_exec_that_failed_or_came_before_is_not_part_of_a_start() {
        let mut pending = PendingMarks::default();
        pending.take(event(1, Mark::ExecPrepared, NO_TARGET, 1));
        pending.take(event(1, Mark::ExecPrepared, NO_TARGET, 2));
        pending.take(event(1, Mark::Executed, NO_TARGET, 3));
        assert_eq!(
            marks(pending.take(event(1, Mark::Entry, 0, 4))),
            (0, vec![2, 3, 4])
        );
        // Without sched_prepare_exec.
        pending.take(event(2, Mark::Executed, NO_TARGET, 5));
        pending.take(event(2, Mark::Executed, NO_TARGET, 6));
        assert_eq!(marks(pending.take(event(2, Mark::Entry, 0, 7))), (0, vec![6, 7]));
    }

    #[test]
    fn processes_that_run_something_else_are_forgotten() {
        let mut pending = PendingMarks::default();
        pending.take(event(1, Mark::Executed, NO_TARGET, 0));
        pending.take(event(2, Mark::Executed, NO_TARGET, LONGEST));
        assert_eq!(pending.forget_others(LONGEST + 1), [1]);
        assert_eq!(pending.forget_others(LONGEST + 1), [] as [u32; 0]);
        pending.take(event(2, Mark::Exited, NO_TARGET, LONGEST));
        assert_eq!(pending.0.len(), 0);
        for tgid in 0..2 * MOST as u32 {
            pending.take(event(tgid, Mark::Executed, NO_TARGET, u64::from(tgid)));
        }
        assert_eq!(pending.0.len(), MOST);
        assert!(pending.0.contains_key(&(2 * MOST as u32 - 1)), "the newest stays");
    }
}
