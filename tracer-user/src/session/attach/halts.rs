//! Whether the target runs at all during a capture.

use crate::{
    process::{Halt, HaltWatch},
    stream::step::Halted,
};

/// How often the state of the target is read, at most: `full` collects more often.
const EVERY_NS: u64 = 90_000_000;

/// When the target was stopped, traced or frozen, by regular readings of its state.
#[derive(Debug, Default)]
pub struct Halts {
    watch: HaltWatch,
    readings: StateReadings,
}

impl Halts {
    /// Returns the halts of a target that was not read yet.
    pub fn new(watch: HaltWatch) -> Self {
        Self {
            watch,
            readings: StateReadings::default(),
        }
    }

    /// Reads the state, unless that was done a moment ago. Returns why the target does not run, if it did at the last
    /// reading.
    pub fn read(&mut self, now_ns: u64) -> Option<Halt> {
        let last_ns = self.readings.last.map(|(at_ns, _)| at_ns);
        if last_ns.is_some_and(|last_ns| now_ns.saturating_sub(last_ns) < EVERY_NS) {
            return None;
        }
        self.read_now(now_ns)
    }

    /// Reads the state. Returns as [`Self::read`].
    pub fn read_now(&mut self, now_ns: u64) -> Option<Halt> {
        self.readings.add(now_ns, self.watch.read())
    }

    /// Returns what was seen.
    pub fn seen(&self) -> Vec<Halted> {
        self.readings.seen.clone()
    }
}

/// Readings of the state, summed up.
#[derive(Debug, Default)]
struct StateReadings {
    last: Option<(u64, Option<Halt>)>,
    seen: Vec<Halted>,
}

impl StateReadings {
    /// Adds a reading. Returns the state if the target has just entered it.
    fn add(&mut self, now_ns: u64, halt: Option<Halt>) -> Option<Halt> {
        let before = self.last.replace((now_ns, halt));
        let state = halt?;
        let was_so = before.filter(|(_, before)| *before == Some(state));
        let since_ns = was_so.map_or(0, |(at_ns, _)| now_ns.saturating_sub(at_ns));
        let times = u64::from(was_so.is_none());
        match self.seen.iter_mut().find(|halted| halted.state == state) {
            Some(halted) => {
                halted.times += times;
                halted.at_least_ns = halted.at_least_ns.saturating_add(since_ns);
            }
            None => self.seen.push(Halted {
                state,
                at_begin: before.is_none(),
                times,
                at_least_ns: since_ns,
            }),
        }
        was_so.is_none().then_some(state)
    }
}

/// What is said of a target that does not run.
pub fn sentence(pid: u32, halt: Halt) -> String {
    let (why, next) = match halt {
        Halt::Stopped => (
            "stopped by a signal (SIGSTOP, or the terminal's)",
            format!("kill -CONT {pid} continues it"),
        ),
        Halt::Traced => (
            "held by a debugger or another tracer",
            format!("TracerPid in /proc/{pid}/status names it"),
        ),
        Halt::Frozen => (
            "frozen with its cgroup",
            "a container that is paused, for example, has to be resumed".to_owned(),
        ),
    };
    format!("process {pid} is {why}: none of its goroutines runs; {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_target_that_runs_leaves_nothing() {
        let mut readings = StateReadings::default();
        for second in 1..10 {
            assert_eq!(readings.add(second * SECOND, None), None);
        }
        assert_eq!(readings.seen, []);
    }

    #[test]
    fn one_that_is_stopped_from_the_begin_is_reported_once() {
        let mut readings = StateReadings::default();
        assert_eq!(readings.add(SECOND, Some(Halt::Stopped)), Some(Halt::Stopped));
        assert_eq!(readings.add(2 * SECOND, Some(Halt::Stopped)), None);
        assert_eq!(readings.add(3 * SECOND, None), None);
        assert_eq!(
            readings.seen,
            [Halted {
                state: Halt::Stopped,
                at_begin: true,
                times: 1,
                at_least_ns: SECOND
            }]
        );
    }

    #[test]
    fn what_comes_in_the_window_is_counted_by_its_state() {
        let mut readings = StateReadings::default();
        readings.add(SECOND, None);
        assert_eq!(readings.add(2 * SECOND, Some(Halt::Traced)), Some(Halt::Traced));
        assert_eq!(readings.add(3 * SECOND, Some(Halt::Frozen)), Some(Halt::Frozen));
        assert_eq!(readings.add(5 * SECOND, Some(Halt::Frozen)), None);
        assert_eq!(readings.add(6 * SECOND, None), None);
        assert_eq!(readings.add(7 * SECOND, Some(Halt::Traced)), Some(Halt::Traced));
        let seen: Vec<_> = readings
            .seen
            .iter()
            .map(|halted| (halted.state, halted.at_begin, halted.times, halted.at_least_ns))
            .collect();
        assert_eq!(
            seen,
            [(Halt::Traced, false, 2, 0), (Halt::Frozen, false, 1, 2 * SECOND)]
        );
    }

    #[test]
    fn each_state_is_named_with_what_to_do() {
        for (halt, words) in [
            (Halt::Stopped, "kill -CONT 7"),
            (Halt::Traced, "/proc/7/status"),
            (Halt::Frozen, "resumed"),
        ] {
            assert!(sentence(7, halt).contains(words));
        }
    }
}
