//! Everything that the model knows, as of one moment.

use super::stacks::StacksReport;
use super::waits::Wait;
use super::{Anomalies, CausesReport, History, Sched, Searches, State, World};
use crate::stream::{HistogramDelta, HistogramKey};

/// The number of waits that have not ended and are reported.
const ONGOING: usize = 10;

/// Everything that the model knows, as of one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// When the model saw its first event or snapshot, CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// The moment of the report.
    pub end_ns: u64,
    /// Since when every answer holds; `None` where something was lost and no snapshot came after it.
    pub valid_from_ns: Option<u64>,
    /// Transitions that were applied.
    pub events: u64,
    /// Transitions that were lost.
    pub lost: u64,
    /// Transitions that the kernel side saw: those that were applied and those that were lost.
    pub seen: u64,
    /// Goroutines made, and ended.
    pub churn: (u64, u64),
    /// Living goroutines by state, as of the moment.
    pub living: [u64; State::COUNT],
    /// Living goroutines by state at regular moments, from the first snapshot on.
    pub history: History,
    /// Nanoseconds that goroutines spent in each state, those of the present state included.
    pub spent_ns: [u64; State::COUNT],
    /// Time in Waiting, by reason.
    pub by_reason: Vec<(String, HistogramDelta)>,
    /// Goroutines by the `go` statement that made them.
    pub sites: Vec<SiteReport>,
    /// Where goroutines blocked, if stacks are recorded.
    pub stacks: Option<StacksReport>,
    /// The longest times in Waiting, those that have not ended included, and the names of their reasons.
    pub longest: Vec<(Wait, String)>,
    /// Ps, by id.
    pub processors: Vec<ProcessorReport>,
    /// Ms as of the moment.
    pub machines: MachineReport,
    /// Searches of Ms for goroutines to run.
    pub searches: Searches,
    /// The garbage collector, the stopped world, and threads.
    pub world: World,
    /// Times that a running goroutine lost its P, and so must have been in a system call.
    pub inferred_syscalls: u64,
    /// Why goroutines waited to run.
    pub causes: CausesReport,
    /// What did not fit.
    pub anomalies: Anomalies,
}

/// The goroutines that one `go` statement made.
#[derive(Clone, Debug)]
pub struct SiteReport {
    /// `g.gopc`; 0 of those whose birth was not seen.
    pub gopc: u64,
    /// Those made in the capture.
    pub created: u64,
    /// Those that ended in it.
    pub exited: u64,
    /// Their waits Runnable→Running.
    pub runnable: Option<HistogramDelta>,
}

/// One P.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessorReport {
    /// Its id.
    pub id: u32,
    /// Nanoseconds with an M.
    pub held_ns: u64,
    /// Nanoseconds with a running goroutine.
    pub busy_ns: u64,
    /// Times that an M took it.
    pub acquired: u64,
    /// Times that it was taken away from a blocked M.
    pub handed_off: u64,
    /// Mean and largest length of its run queue in the snapshots.
    pub queued: Option<(f64, u32)>,
}

/// The Ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineReport {
    /// The number of threads that are known.
    pub known: u64,
    /// Of them, those that sleep for want of work.
    pub parked: u64,
    /// Of them, those that run a goroutine or are in a system call with it.
    pub with_goroutine: u64,
}

impl Sched {
    /// Reports what is known as of `end_ns`, which is not before the last observation.
    pub fn report(&self, end_ns: u64) -> Report {
        let mut spent_ns = self.spent_ns;
        let mut ongoing: Vec<Wait> = Vec::new();
        for goroutine in self.goroutines.living() {
            let spent = end_ns.saturating_sub(goroutine.since_ns);
            if let Some(sum) = spent_ns.get_mut(goroutine.state as usize) {
                *sum += spent;
            }
            if goroutine.state == State::Waiting {
                // Across a loss, it may have been another wait.
                let (since_ns, is_begin_known) = self.known_since(goroutine).unwrap_or((end_ns, false));
                ongoing.push(Wait {
                    begin_ns: if is_begin_known { since_ns } else { 0 },
                    duration_ns: end_ns.saturating_sub(since_ns),
                    g: goroutine.g,
                    life: goroutine.life,
                    goid: goroutine.goid,
                    gopc: goroutine.gopc,
                    reason: goroutine.reason,
                    stack: goroutine.stack,
                    ongoing: true,
                });
                // Places are counted from all of them.
                if ongoing.len() >= 16 * ONGOING && !self.stacks.are_recorded() {
                    keep_longest(&mut ongoing);
                }
            }
        }
        let stacks = self.stacks.report(&ongoing, |reason| self.reasons.name(reason));
        keep_longest(&mut ongoing);
        let ended = self.waits.longest().iter().map(|wait| Wait {
            goid: self
                .goroutines
                .of_life(wait.g, wait.life)
                .map_or(wait.goid, |goroutine| goroutine.goid),
            ..*wait
        });
        let mut longest: Vec<Wait> = ended.collect();
        longest.extend(ongoing);
        longest.sort_by_key(|wait| (std::cmp::Reverse(wait.duration_ns), wait.g));
        let mut sites: Vec<SiteReport> = self
            .waits
            .sites()
            .map(|(gopc, site)| SiteReport {
                gopc,
                created: site.created,
                exited: site.exited,
                runnable: site
                    .runnable
                    .as_ref()
                    .and_then(|counts| counts.delta(HistogramKey::CreationSite(gopc))),
            })
            .collect();
        sites.sort_by_key(|site| site.gopc);
        Report {
            begin_ns: self.begin_ns,
            end_ns,
            valid_from_ns: self.valid_from_ns,
            events: self.events,
            lost: self.losses,
            seen: self.seen,
            churn: (self.created, self.exited),
            living: self.living,
            history: {
                let mut history = self.history.clone();
                history.advance(end_ns, &self.living);
                history
            },
            spent_ns,
            by_reason: self
                .waits
                .by_reason()
                .filter_map(|(reason, counts)| {
                    Some((self.reasons.name(reason), counts.delta(HistogramKey::All)?))
                })
                .collect(),
            sites,
            stacks,
            longest: longest
                .into_iter()
                .map(|wait| (wait, self.reasons.name(wait.reason)))
                .collect(),
            processors: self.processors(end_ns),
            machines: self.machines_now(),
            searches: self.machines.searches,
            world: self.world_at(end_ns),
            inferred_syscalls: self.inferred_syscalls,
            causes: self.causes_report(end_ns),
            anomalies: self.anomalies.clone(),
        }
    }

    /// The world, with the time that each thread has been in its present state.
    fn world_at(&self, end_ns: u64) -> World {
        let mut world = self.world;
        for thread in self.machines.by_tid.values().map(|machine| machine.thread) {
            world.add_thread_time(thread.state, end_ns.saturating_sub(thread.since_ns));
        }
        world
    }

    fn processors(&self, end_ns: u64) -> Vec<ProcessorReport> {
        let since = |at_ns: u64| {
            if at_ns == 0 {
                0
            } else {
                end_ns.saturating_sub(at_ns)
            }
        };
        let mut reports: Vec<ProcessorReport> = self
            .machines
            .processors
            .values()
            .filter_map(|processor| {
                let (sum, count, most) = processor.queued;
                Some(ProcessorReport {
                    id: processor.id?,
                    held_ns: processor.held_ns + since(processor.held_since_ns),
                    busy_ns: processor.busy_ns + since(processor.busy_since_ns),
                    acquired: processor.acquired,
                    handed_off: processor.handed_off,
                    queued: (count > 0).then(|| (sum as f64 / count as f64, most)),
                })
            })
            .collect();
        reports.sort_by_key(|report| report.id);
        reports
    }

    fn machines_now(&self) -> MachineReport {
        let mut report = MachineReport::default();
        for machine in self.machines.by_tid.values() {
            report.known += 1;
            report.parked += u64::from(machine.parked);
            report.with_goroutine += u64::from(machine.running.is_some());
        }
        report
    }
}

fn keep_longest(waits: &mut Vec<Wait>) {
    waits.sort_by_key(|wait| (std::cmp::Reverse(wait.duration_ns), wait.g));
    waits.truncate(ONGOING);
}
