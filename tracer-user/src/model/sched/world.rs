//! What concerns the whole process: the garbage collector, the stopped world, Ms that begin and end, Linux's threads.

use super::thread::ThreadState;
use crate::stream::transition::What;

/// Counts and times of the whole capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Cycles of the garbage collector that were asked for.
    pub gc_starts: u64,
    /// Cycles whose marking has ended.
    pub gc_cycles: u64,
    /// From `gcStart` to `gcMarkTermination`, in nanoseconds.
    pub gc_ns: u64,
    gc_since_ns: u64,
    /// Times that the world was stopped.
    pub stops: u64,
    /// From `stopTheWorldWithSema` to `startTheWorldWithSema`, in nanoseconds.
    pub stopped_ns: u64,
    stopped_since_ns: u64,
    stop_reason: u8,
    /// Whether it is stopped for mark termination.
    ends_marking: bool,
    /// When the world was stopped whose Ps are given out again right now; 0: none is.
    starting_since_ns: u64,
    /// Whether the Ps are being given out again.
    giving_out: bool,
    /// Worlds that were seen to have started: only then are pauses known.
    started: u64,
    paused: u64,
    paused_ns: u64,
    /// Times that GOMAXPROCS changed.
    pub resized: u64,
    /// GOMAXPROCS; 0 while it is not known.
    pub(super) gomaxprocs: u64,
    /// Ms that began.
    pub machines_started: u64,
    /// Ms that ended.
    pub machines_ended: u64,
    /// Ms that went to sleep for want of work.
    pub parks: u64,
    /// Ms that were wanted to look for work, since a goroutine became runnable and a P was idle.
    pub wanted_spinning: u64,
    /// Ms that were wanted for a P that was handed off, or for a world that starts again.
    pub wanted_for_processor: u64,
    /// Threads that were made to look for work.
    pub created_spinning: u64,
    /// Threads that were made for a P that was handed off, or for a world that starts again.
    pub created_for_processor: u64,
    /// Threads that were made for something else: sysmon, the template thread.
    pub created_other: u64,
    /// Nanoseconds of all threads on a CPU.
    pub on_cpu_ns: u64,
    /// Nanoseconds of all threads that could run and had no CPU.
    pub waiting_for_cpu_ns: u64,
    /// Nanoseconds of all threads that waited for something else.
    pub asleep_ns: u64,
}

impl World {
    /// Applies an event of the garbage collector or of a stopped world. `reason` is that of a stop, 0 where it is not
    /// known.
    pub(super) fn apply(&mut self, what: What, reason: u8, at_ns: u64) {
        match what {
            What::GcStart => {
                self.gc_starts += 1;
                self.gc_since_ns = at_ns;
            }
            What::GcMarkTermination => {
                self.gc_cycles += 1;
                if self.gc_since_ns != 0 {
                    self.gc_ns += at_ns.saturating_sub(self.gc_since_ns);
                    self.gc_since_ns = 0;
                }
                self.ends_marking = self.stopped_since_ns != 0;
            }
            What::WorldStops => {
                self.stops += 1;
                (self.stopped_since_ns, self.stop_reason) = (at_ns, reason);
                (self.ends_marking, self.starting_since_ns) = (false, 0);
                self.giving_out = false;
            }
            What::WorldStarts if self.stopped_since_ns != 0 => {
                self.stopped_ns += at_ns.saturating_sub(self.stopped_since_ns);
                if self.ends_marking {
                    // gcMarkTermination takes the end of its pause itself, before it calls startTheWorldWithSema.
                    self.count_pause(self.stopped_since_ns, at_ns);
                } else {
                    self.starting_since_ns = self.stopped_since_ns;
                }
                self.stopped_since_ns = 0;
                // Where it was never seen that a world had started, that is taken to be at once.
                self.giving_out = self.started > 0;
            }
            What::WorldStarted => {
                self.started += 1;
                self.giving_out = false;
                if self.starting_since_ns != 0 {
                    self.count_pause(self.starting_since_ns, at_ns);
                    self.starting_since_ns = 0;
                }
            }
            _ => {}
        }
    }

    /// Whether the world is being stopped, stands still, or is being started.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped_since_ns != 0 || self.giving_out
    }

    /// Whether the Ps are being given out again.
    pub(super) fn is_given_out(&self) -> bool {
        self.giving_out
    }

    /// When the stop of the world that is not over began, and its reason.
    pub(super) fn stopped_since(&self) -> Option<(u64, u8)> {
        (self.stopped_since_ns != 0).then_some((self.stopped_since_ns, self.stop_reason))
    }

    fn count_pause(&mut self, from_ns: u64, to_ns: u64) {
        self.paused += 1;
        self.paused_ns = self.paused_ns.saturating_add(to_ns.saturating_sub(from_ns));
    }

    /// Pauses as the runtime counts them for `/sched/pauses/total`, and their time in nanoseconds. `None` if it was never
    /// seen that a world had started.
    pub fn pauses(&self) -> Option<(u64, u64)> {
        (self.started > 0).then_some((self.paused, self.paused_ns))
    }

    /// Forgets what has begun and not ended: after a loss it may have ended and begun anew.
    pub(super) fn record_loss(&mut self) {
        (self.gc_since_ns, self.stopped_since_ns) = (0, 0);
        (self.ends_marking, self.starting_since_ns) = (false, 0);
        self.giving_out = false;
    }

    /// Counts an M that was wanted (`startm`), to look for work or for a P.
    pub(super) fn count_wanted(&mut self, spinning: u8) {
        if spinning != 0 {
            self.wanted_spinning += 1;
        } else {
            self.wanted_for_processor += 1;
        }
    }

    /// Counts a thread that was made. `wanted` is the `startm` that it belongs to; `function` what the thread runs in
    /// place of the scheduler.
    pub(super) fn count_created(&mut self, wanted: Option<u8>, function: u64) {
        match wanted {
            // startm gives a spinning M a function of its own (mspinning), and no other.
            Some(1) => self.created_spinning += 1,
            Some(_) if function == 0 => self.created_for_processor += 1,
            _ => self.created_other += 1,
        }
    }

    /// Adds the time that a thread was in a state.
    pub(super) fn add_thread_time(&mut self, state: ThreadState, ns: u64) {
        match state {
            ThreadState::OnCpu => self.on_cpu_ns += ns,
            ThreadState::Waiting => self.waiting_for_cpu_ns += ns,
            ThreadState::Asleep => self.asleep_ns += ns,
            ThreadState::Unknown => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[(What, u64)]) -> World {
        let mut world = World::default();
        for (what, at_ns) in events {
            world.apply(*what, 0, *at_ns);
        }
        world
    }

    /// A cycle: the world stops before it, and for mark termination.
    #[test]
    fn a_pause_ends_where_the_runtime_ends_it() {
        let world = after(&[
            (What::GcStart, 90),
            (What::WorldStops, 100),
            (What::WorldStarts, 130),
            (What::WorldStarted, 170),
            (What::WorldStops, 200),
            (What::GcMarkTermination, 210),
            (What::WorldStarts, 220),
            // What comes after the pause of mark termination is not part of it.
            (What::WorldStarted, 290),
            // For something else.
            (What::WorldStops, 300),
            (What::WorldStarts, 301),
            (What::WorldStarted, 304),
        ]);
        assert_eq!((world.stops, world.stopped_ns), (3, 30 + 20 + 1));
        assert_eq!(world.pauses(), Some((3, 70 + 20 + 4)));
        assert_eq!((world.gc_cycles, world.gc_ns), (1, 120));
    }

    #[test]
    fn pauses_are_unknown_where_their_end_is_not_seen() {
        let world = after(&[(What::WorldStops, 100), (What::WorldStarts, 130)]);
        assert_eq!((world.stopped_ns, world.pauses()), (30, None));
    }

    #[test]
    fn a_pause_that_began_before_the_capture_or_within_a_loss_is_not_counted() {
        let mut world = after(&[(What::WorldStarted, 50), (What::WorldStops, 100)]);
        world.record_loss();
        world.apply(What::WorldStarts, 0, 150);
        world.apply(What::WorldStarted, 0, 160);
        assert_eq!((world.stopped_ns, world.pauses()), (0, Some((0, 0))));
    }
}
