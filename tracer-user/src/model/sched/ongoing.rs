//! What has begun and is not over, as the transitions have it.

use tracer_ebpf::Origin;

use super::goroutine::{Goroutine, mark};
use super::{Sched, State};
use crate::model::ongoing::{Ongoing, Stop, Stretch, Stretches};

impl Sched {
    /// Reports what has begun and is not over as of `end_ns`, which is not before the last observation.
    pub fn ongoing(&self, end_ns: u64) -> Ongoing {
        let (mut runnable, mut running, mut syscalls) =
            (Stretches::default(), Stretches::default(), Stretches::default());
        for goroutine in self.goroutines.living() {
            let stretches = match goroutine.state {
                State::Runnable => &mut runnable,
                State::Running => &mut running,
                State::Syscall => &mut syscalls,
                State::Unknown | State::Waiting | State::Dead => continue,
            };
            let Some((since_ns, is_begin_known)) = self.known_since(goroutine) else {
                stretches.add_unknown(1);
                continue;
            };
            let is_runnable = goroutine.state == State::Runnable;
            stretches.add(Stretch {
                goid: goroutine.goid,
                gopc: goroutine.gopc,
                origin: Origin::from_u8(goroutine.origin).filter(|_| is_runnable && is_begin_known),
                at_least_ns: end_ns.saturating_sub(since_ns),
                is_begin_known,
            });
        }
        Ongoing {
            runnable: Some(runnable),
            running: Some(running),
            syscalls: Some(syscalls),
            stop: self.world.stopped_since().map(|(since_ns, reason)| Stop {
                at_least_ns: Some(end_ns.saturating_sub(since_ns)),
                reason: (reason != 0).then_some(reason),
                not_stopped: None,
            }),
        }
    }

    /// Whether an event of a stop of the world was seen: then events say whether it is stopped.
    pub fn has_seen_a_stop(&self) -> bool {
        self.world.stops > 0
    }

    /// A moment since which the goroutine has not left its state, and whether that is when it entered it. `None` where
    /// something was lost and the states were not read anew after it.
    pub(super) fn known_since(&self, goroutine: &Goroutine) -> Option<(u64, bool)> {
        if goroutine.since_ns >= self.lost_ns {
            return Some((goroutine.since_ns, !goroutine.is(mark::INFERRED)));
        }
        // It may have left its state within the loss, and come back.
        self.valid_from_ns.map(|from_ns| (from_ns, false))
    }
}
