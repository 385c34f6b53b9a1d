//! A schedule that a test writes down event by event, in microseconds.

use std::collections::BTreeMap;

use super::*;

pub(super) const US: u64 = 1_000;
/// When a story begins: its states are known from then on.
pub(super) const BEGIN_US: u64 = 1_000_000;

/// The P with this number.
pub(super) fn p(n: u64) -> u64 {
    P + n * 0x4000
}

/// A scheduler, and the time that its next event has.
pub(super) struct Story {
    pub(super) sched: Sched,
    us: u64,
}

impl Story {
    /// A process with so many idle Ps, and no goroutine. Threads have the numbers 1, 2, ….
    pub(super) fn with_ps(ps: u64) -> Self {
        let mut story = Self::unread(ps);
        story.read(ps);
        story
    }

    /// One whose states have not been read yet.
    pub(super) fn unread(ps: u64) -> Self {
        let mut story = Self {
            sched: Sched::new(SchedConfig {
                minor: 27,
                syscalls: false,
                slower_ns: None,
                assists: true,
            }),
            us: BEGIN_US,
        };
        story.event(What::ProcessorsResized, 1, ps, 0, 0);
        story
    }

    /// Reads every state, as long as no goroutine lives.
    pub(super) fn read(&mut self, ps: u64) {
        let processors = (0..ps).map(|n| ProcessorSeen {
            p: p(n),
            id: n as u32,
            ..ProcessorSeen::default()
        });
        self.sched.observe(&Observation {
            at_ns: self.us * US,
            kind: Kind::Scheduler(Box::new(SchedSnapshot {
                begin_ns: self.us * US,
                end_ns: self.us * US,
                processors: processors.collect(),
                ..SchedSnapshot::default()
            })),
        });
    }

    /// Lets so many microseconds pass.
    pub(super) fn pass(&mut self, us: u64) -> &mut Self {
        self.us += us;
        self
    }

    pub(super) fn event(&mut self, what: What, tid: u32, subject: u64, detail: u64, reason: u8) -> &mut Self {
        self.sched.apply(&Transition {
            at_ns: self.us * US,
            subject,
            detail,
            tid,
            what: what as u8,
            reason,
            ..Transition::default()
        });
        self
    }

    fn status(&mut self, g: u64, tid: u32, old: u8, new: u8, reason: u8) -> &mut Self {
        let transition = Transition {
            detail: if old == s::DEAD { 0x40_0000 + g } else { 0 },
            ..status_change(self.us * US, g_at(g), tid, old, new, reason)
        };
        self.sched.apply(&transition);
        self
    }

    pub(super) fn acquire(&mut self, tid: u32, n: u64) -> &mut Self {
        self.event(What::ProcessorAcquired, tid, p(n), 0, 0)
    }

    pub(super) fn release(&mut self, tid: u32, n: u64) -> &mut Self {
        self.event(What::ProcessorReleased, tid, p(n), 0, 0)
    }

    pub(super) fn create(&mut self, g: u64, tid: u32) -> &mut Self {
        self.status(g, tid, s::DEAD, s::RUNNABLE, Origin::Created as u8)
    }

    pub(super) fn run(&mut self, g: u64, tid: u32) -> &mut Self {
        self.status(g, tid, s::RUNNABLE, s::RUNNING, 0)
    }

    pub(super) fn block(&mut self, g: u64, tid: u32, reason: u8) -> &mut Self {
        self.status(g, tid, s::RUNNING, s::WAITING, reason)
    }

    pub(super) fn wake(&mut self, g: u64, tid: u32, origin: Origin) -> &mut Self {
        self.status(g, tid, s::WAITING, s::RUNNABLE, origin as u8)
    }

    pub(super) fn leave(&mut self, g: u64, tid: u32, origin: Origin) -> &mut Self {
        self.status(g, tid, s::RUNNING, s::RUNNABLE, origin as u8)
    }

    pub(super) fn off(&mut self, tid: u32, state: u64) -> &mut Self {
        self.event(What::ThreadOff, tid, 0, state, 0)
    }

    pub(super) fn on(&mut self, tid: u32) -> &mut Self {
        self.event(What::ThreadOn, tid, 0, 0, 0)
    }

    pub(super) fn throttled(&mut self, us: u64) -> &mut Self {
        self.sched.observe(&Observation {
            at_ns: self.us * US,
            kind: Kind::Throttling(Throttling {
                throttled_ns: us * US,
                periods: 1,
            }),
        });
        self
    }

    pub(super) fn lose(&mut self) -> &mut Self {
        self.sched.observe(&Observation {
            at_ns: self.us * US,
            kind: Kind::Loss(Loss {
                cause: LossCause::TransitionsDropped,
                count: 1,
            }),
        });
        self
    }

    /// What is known now.
    pub(super) fn report(&self) -> CausesReport {
        let report = self.sched.report(self.us * US).causes;
        check_identities(&report);
        report
    }

    /// The time by cause, in microseconds.
    pub(super) fn causes(&self) -> BTreeMap<&'static str, u64> {
        let causes = self.report().by_cause;
        causes
            .iter()
            .map(|cause| (cause.cause.name(), cause.total_ns / US))
            .collect()
    }
}

/// Checks what holds of every report whose events came in order.
pub(super) fn check_identities(report: &CausesReport) {
    let sum: u64 = report.by_cause.iter().map(|cause| cause.total_ns).sum();
    assert_eq!(
        sum, report.runnable_ns,
        "the causes add up to the time of the runnable goroutines"
    );
    assert_eq!(report.imbalance_ns, 0);
    let unknown = report.by_cause.iter().find(|cause| cause.cause == Cause::Unknown);
    assert!(report.before_known_ns <= unknown.map_or(0, |cause| cause.total_ns));
    assert!(report.some_ns <= report.runnable_ns);
    for cause in &report.by_cause {
        let ended = cause.waits.as_ref().and_then(|waits| waits.sum_ns).unwrap_or(0);
        assert!(
            ended + cause.ongoing_ns <= cause.total_ns,
            "{}",
            cause.cause.name()
        );
    }
    for wait in &report.slowest {
        let sum: u64 = wait.causes.iter().map(|(_, ns)| ns).sum();
        assert_eq!(sum, wait.duration_ns, "the causes of a wait add up to it");
    }
}
