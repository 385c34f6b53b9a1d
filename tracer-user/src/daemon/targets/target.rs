//! A Go process that is watched or shown, and what was counted of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Governed,
    cgroups::TargetCgroups,
    samples::Sampled,
    tracked::Tracked,
    watched::{ReadFailure, Watched},
};
use crate::{
    daemon::{
        config::{Config, Tier},
        discovery::{
            Decision, Placement, ProcessFacts, decide,
            inspect::{Found, Identity, Refused},
        },
        job::{Done, Job, What},
        view::{Name, TargetView},
    },
    latency::Histogram,
    process::{Hierarchies, Life, memory::ReadError},
    sources::passive::ObserveError,
    stream::{Kind, Observation},
};

/// The next [`Target::id`].
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A process that is watched or shown.
#[derive(Debug)]
pub struct Target {
    id: u64,
    life: Life,
    view: Arc<TargetView>,
    placement: Placement,
    decision: Decision,
    /// How it is read; `None` for a Go program that cannot be read.
    watched: Option<Watched>,
    /// How it is probed; `None` for one that cannot be read.
    governed: Option<Governed>,
    tracked: Tracked,
    /// What is known of its samples.
    pub(super) sampled: Sampled,
    cgroups: TargetCgroups,
    /// Readings that failed in a row.
    pub read_failures: u32,
}

impl Target {
    /// Creates a target that is read.
    pub fn watched(found: Found, config: &Config) -> Self {
        let Found {
            identity,
            known,
            nth,
            globals,
            bias,
            clock,
            refuted,
            passive,
            causes,
        } = found;
        let runtime_waits = passive.scheme().map(Histogram::new);
        let version = known
            .program
            .facts
            .version
            .raw
            .trim_start_matches("go")
            .to_owned();
        let mut target = Self::new(identity, version, Tier::Passive);
        let view = Arc::make_mut(&mut target.view);
        view.why = runtime_waits.is_none().then(|| {
            "the runtime's own histogram of waits (sched.timeToRun) was not found or has an unknown shape: there are \
             gauges only"
                .to_owned()
        });
        view.runtime_waits = runtime_waits;
        view.layout = known
            .program
            .nth(nth)
            .unproven_layout(&known.program.facts.version);
        view.left_out = refuted;
        let watched = Watched {
            known,
            nth,
            globals,
            bias,
            clock,
            passive: Some(passive),
            causes,
        };
        target.sampled = Sampled::new(watched.causes.is_some());
        target.governed = Some(Governed::new(config, target.decision, &watched));
        target.watched = Some(watched);
        target
    }

    /// Creates a target that cannot be read, and is only shown.
    pub fn refused(refused: Refused) -> Self {
        let mut target = Self::new(refused.identity, String::new(), Tier::Off);
        Arc::make_mut(&mut target.view).why = Some(refused.why.to_string());
        target
    }

    fn new(identity: Identity, go_version: String, tier: Tier) -> Self {
        let Identity {
            life,
            exe,
            placement,
            decision,
        } = identity;
        let name = Name {
            exe,
            comm: life.comm().clone(),
            pid: life.pid().unsigned_abs(),
            start_time: life.start_time(),
            uid: life.uid(),
            container: placement.container.clone(),
            pod: placement.pod.clone(),
        };
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            life,
            view: Arc::new(TargetView {
                name,
                go_version,
                layout: None,
                tier,
                allowed: decision.tier,
                why: None,
                left_out: Vec::new(),
                runtime_waits: None,
                sampled_waits: BTreeMap::new(),
                exact_waits: BTreeMap::new(),
                runnable: None,
                gauges: None,
                cgroup_cpus: None,
                throttling: None,
                cpu: Duration::ZERO,
                hits: 0,
                cost: Duration::ZERO,
                losses: BTreeMap::new(),
                steps: BTreeMap::new(),
            }),
            placement,
            decision,
            watched: None,
            governed: None,
            tracked: Tracked::default(),
            sampled: Sampled::default(),
            cgroups: TargetCgroups::default(),
            read_failures: 0,
        }
    }

    /// Applies the rules again, which may have changed.
    pub fn decide(&mut self, config: &Config) -> Decision {
        let name = &self.view.name;
        let facts = ProcessFacts {
            exe: name.exe.raw(),
            comm: name.comm.raw(),
            uid: name.uid,
            placement: &self.placement,
        };
        let decision = decide(config, &facts);
        if decision != self.decision {
            self.decision = decision;
            self.view_mut().allowed = decision.tier;
        }
        decision
    }

    /// A number that no other target has or had; the same process has another one after an execve.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The process, held by its pidfd.
    pub fn life(&self) -> &Life {
        &self.life
    }

    /// What is shown of it.
    pub fn view(&self) -> &Arc<TargetView> {
        &self.view
    }

    /// What is shown of it, to be changed; copied if a reader still holds it.
    pub fn view_mut(&mut self) -> &mut TargetView {
        Arc::make_mut(&mut self.view)
    }

    /// How it is read; `None` if it cannot be.
    pub fn watching(&self) -> Option<&Watched> {
        self.watched.as_ref()
    }

    /// How it is probed; `None` if it cannot be read.
    pub fn governed_mut(&mut self) -> Option<&mut Governed> {
        self.governed.as_mut()
    }

    /// Whether it is probed, or may be.
    pub fn is_governed(&self) -> bool {
        let is_probed = |governed: &Governed| governed.slot.is_some();
        self.governed
            .as_ref()
            .is_some_and(|governed| self.decision.tier > Tier::Passive || is_probed(governed))
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.life.pid().unsigned_abs()
    }

    /// What the rules said when they were last applied.
    pub fn decision(&self) -> Decision {
        self.decision
    }

    /// CPU time of the process so far, in nanoseconds; `None` once it has ended.
    pub fn cpu_ns(&self) -> Option<u64> {
        self.life.cpu_time_ns().ok()
    }

    /// The length of `allgs` when it was last read: the number of g structs.
    pub fn goroutines(&self) -> Option<u64> {
        self.view.gauges.as_ref()?.allgs
    }

    /// (waits that its runtime has tracked since the last call, in how many nanoseconds); `None` if they were not read
    /// meanwhile.
    pub fn take_tracked(&mut self) -> Option<(u64, u64)> {
        self.tracked.take()
    }

    /// Begins a window now; the one before does not count. `None` if the process has ended.
    pub fn begin_window(&mut self, now_ns: u64) -> Option<()> {
        let cpu_ns = self.cpu_ns()?;
        let _ = self.governed.as_mut()?.turn_window(now_ns, cpu_ns);
        Some(())
    }

    /// Counts what its probes have observed. Returns the number of hits, and the creation sites whose names are to be
    /// looked up.
    pub fn count_probed(&mut self, seen: &[Observation]) -> (u64, Vec<u64>) {
        let (Some(governed), Some(watched)) = (&mut self.governed, &self.watched) else {
            return (0, Vec::new());
        };
        let view = Arc::make_mut(&mut self.view);
        let (hits, unresolved) = governed.count(seen, watched, view);
        view.hits = view.hits.saturating_add(hits);
        view.cost += Duration::from_nanos(hits.saturating_mul(governed.hit_ns));
        (hits, unresolved)
    }

    /// Names of creation sites were looked up: counts their waits under them.
    pub fn names_resolved(&mut self) {
        if let (Some(governed), Some(watched)) = (&mut self.governed, &self.watched) {
            governed.names_resolved(watched, Arc::make_mut(&mut self.view));
        }
    }

    /// Updates the reason why it is not traced with a higher mode.
    pub fn explain(&mut self, now_ns: u64) {
        let Some(governed) = &self.governed else { return };
        let why = match self.view.tier < self.view.allowed {
            true => governed
                .governor
                .obstacle(now_ns)
                .map(|obstacle| obstacle.to_string()),
            false => None,
        };
        if why != self.view.why {
            self.view_mut().why = why;
        }
    }

    /// Prepares a reading of its memory. `None` while another of the same things is under way, and if it cannot be read.
    /// `walk` is the CPU time per second that counting its goroutines may cost us.
    pub fn job(&mut self, what: What, walk: Duration) -> Option<Job> {
        let watched = self.watched.as_mut()?;
        let (passive, mut causes) = match what {
            What::All => (Some(watched.passive.take()?), watched.causes.take()),
            What::Waits => (Some(watched.passive.take()?), None),
            What::Causes => (None, Some(watched.causes.take()?)),
        };
        if let Some(causes) = &mut causes {
            causes.set_throttling(self.cgroups.limited().to_vec());
            causes.set_most(self.sampled.most_ns);
        }
        Some(Job {
            pid: self.pid(),
            target: self.id,
            passive,
            causes,
            what,
            walk,
            delay: Duration::ZERO,
        })
    }

    /// Reads the CPU time and the cgroups of the process.
    pub fn read_system(&mut self, now_ns: u64, hierarchies: &Hierarchies) {
        let cpu = self.life.cpu_time_ns();
        let view = Arc::make_mut(&mut self.view);
        self.cgroups.read(self.life.pid(), now_ns, hierarchies, view);
        if let Ok(cpu) = cpu {
            self.view_mut().cpu = Duration::from_nanos(cpu);
        }
    }

    /// Takes in a reading of its memory.
    ///
    /// # Errors
    /// See [`ReadFailure`]; what was counted before stays.
    pub fn finish_reading(&mut self, done: Done) -> Result<(), ReadFailure> {
        let Done { job, at_ns, seen, .. } = done;
        let reads_waits = job.what != What::Causes;
        if let Some(watched) = &mut self.watched {
            watched.passive = job.passive.or(watched.passive.take());
            watched.causes = job.causes.or(watched.causes.take());
        }
        // Only now it is certain that all of this was read from this process, not from a later one of its PID, and from
        // this program, not from a later one of the process.
        if self.life.has_ended() {
            return Err(ReadFailure::Ended);
        }
        if self.life.has_execed() {
            return Err(ReadFailure::Replaced);
        }
        match seen {
            Ok(seen) => {
                if reads_waits {
                    self.tracked.add(&seen, at_ns);
                }
                self.count(&seen);
                Ok(())
            }
            // The process is about to end.
            Err(ObserveError::Read(ReadError::Gone { .. })) => Err(ReadFailure::Ended),
            Err(ObserveError::Read(e)) => Err(ReadFailure::Unreadable(e)),
            Err(ObserveError::Replaced { .. }) => Err(ReadFailure::Replaced),
        }
    }

    /// Counts what was observed in its memory.
    fn count(&mut self, seen: &[Observation]) {
        let view = Arc::make_mut(&mut self.view);
        for observation in seen {
            match &observation.kind {
                Kind::HistogramDelta(delta) => {
                    if let Some(waits) = &mut view.runtime_waits {
                        waits.add_delta(delta);
                    }
                }
                Kind::Snapshot(snapshot) => view.gauges = Some(snapshot.as_ref().clone()),
                Kind::Loss(loss) => {
                    let lost = view.losses.entry(loss.cause).or_default();
                    *lost = lost.saturating_add(loss.count);
                }
                Kind::CauseSamples(seen) => {
                    view.runnable.get_or_insert_default().add(seen);
                    self.sampled.add(seen);
                }
                // Not observed in memory.
                Kind::Hits(_)
                | Kind::Event(_)
                | Kind::Transitions(_)
                | Kind::TransitionsSeen(_)
                | Kind::Stacks(_)
                | Kind::Scheduler(_)
                | Kind::Throttling(_)
                | Kind::Ongoing(_) => {}
            }
        }
    }
}
