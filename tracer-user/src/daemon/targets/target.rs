//! One Go process that is watched, and all that was counted of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::Governed;
use crate::{
    binary::Globals,
    daemon::{
        config::{Config, Tier},
        discovery::{
            Decision, Looked, Placed, decide,
            look::{Found, Identity, Refused},
            programs::Known,
        },
        reader::{Done, Job},
        view::{Name, TargetView, Throttling},
    },
    latency::Histogram,
    plan::program::Reading,
    process::{
        self, Hierarchies, Life,
        memory::{ProcessMemory, ReadError},
    },
    sources::passive::{ObserveError, PassiveSource},
    stream::{Kind, Observation},
};

/// Limits of cgroups are seldom changed: they are read this often.
const LIMITS_NS: u64 = 60_000_000_000;

/// Tells targets apart, also those of one process before and after an execve.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A process.
#[derive(Debug)]
pub struct Target {
    id: u64,
    life: Life,
    view: Arc<TargetView>,
    placed: Placed,
    decision: Decision,
    /// How it is read; `None` for a Go program that cannot be.
    watched: Option<Watched>,
    /// How it is probed.
    governed: Option<Governed>,
    /// When the runtime's waits were last read, and how many came since they were last asked for, in how long.
    tracked: Tracked,
    throttling: Vec<process::Throttling>,
    limits_due_ns: u64,
    /// Readings that failed in a row.
    pub troubles: u32,
}

/// A process that can be read.
#[derive(Debug)]
pub struct Watched {
    /// Its program.
    pub known: Arc<Known>,
    /// Which reading of the program holds.
    pub nth: usize,
    /// Link-time addresses that its memory agrees with.
    pub globals: Globals,
    /// Run-time minus link-time addresses.
    pub bias: u64,
    /// `None` while it is being read.
    passive: Option<PassiveSource<ProcessMemory>>,
}

/// Waits that a runtime has tracked.
#[derive(Clone, Copy, Debug, Default)]
struct Tracked {
    read_ns: Option<u64>,
    waits: u64,
    length_ns: u64,
}

impl Tracked {
    fn read(&mut self, seen: &[Observation], at_ns: u64) {
        let Some(before) = self.read_ns.replace(at_ns) else {
            return;
        };
        self.length_ns = self.length_ns.saturating_add(at_ns.saturating_sub(before));
        for observation in seen {
            if let Kind::HistogramDelta(delta) = &observation.kind {
                let counts = delta.counts.iter().map(|(_, count)| count);
                self.waits = counts.fold(self.waits, |sum, count| sum.saturating_add(*count));
            }
        }
    }
}

/// Why a process could not be read.
#[derive(Debug)]
pub enum Trouble {
    /// It has ended.
    Ended,
    /// It runs another program.
    Replaced,
    /// Its memory cannot be read; that may pass.
    Unreadable(ReadError),
}

impl Watched {
    /// What is known of its program.
    pub fn reading(&self) -> &Reading {
        self.known.program.nth(self.nth)
    }
}

impl Target {
    /// A process that is read from now on.
    pub fn watched(found: Found, config: &Config) -> Self {
        let Found {
            identity,
            known,
            nth,
            globals,
            bias,
            passive,
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
        let watched = Watched {
            known,
            nth,
            globals,
            bias,
            passive: Some(passive),
        };
        target.governed = Some(Governed::new(config, target.decision, &watched));
        target.watched = Some(watched);
        target
    }

    /// A Go process that is only shown.
    pub fn refused(refused: Refused) -> Self {
        let mut target = Self::new(refused.identity, String::new(), Tier::Off);
        Arc::make_mut(&mut target.view).why = Some(refused.why.to_string());
        target
    }

    fn new(identity: Identity, go_version: String, tier: Tier) -> Self {
        let Identity {
            life,
            exe,
            placed,
            decision,
        } = identity;
        let name = Name {
            exe,
            comm: life.comm().clone(),
            pid: life.pid().unsigned_abs(),
            start_time: life.start_time(),
            uid: life.uid(),
            container: placed.container.clone(),
            pod: placed.pod.clone(),
        };
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            life,
            view: Arc::new(TargetView {
                name,
                go_version,
                tier,
                allowed: decision.tier,
                why: None,
                runtime_waits: None,
                sampled_waits: BTreeMap::new(),
                exact_waits: BTreeMap::new(),
                gauges: None,
                cgroup_cpus: None,
                throttling: None,
                cpu: Duration::ZERO,
                hits: 0,
                cost: Duration::ZERO,
                losses: BTreeMap::new(),
                steps: BTreeMap::new(),
            }),
            placed,
            decision,
            watched: None,
            governed: None,
            tracked: Tracked::default(),
            throttling: Vec::new(),
            limits_due_ns: 0,
            troubles: 0,
        }
    }

    /// What the rules say about it now; they may have changed.
    pub fn decide(&mut self, config: &Config) -> Decision {
        let name = &self.view.name;
        let looked = Looked {
            exe: name.exe.raw(),
            comm: name.comm.raw(),
            uid: name.uid,
            placed: &self.placed,
        };
        let decision = decide(config, &looked);
        if decision != self.decision {
            self.decision = decision;
            self.view_mut().allowed = decision.tier;
        }
        decision
    }

    /// What no other target has, nor ever had.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The process, held.
    pub fn life(&self) -> &Life {
        &self.life
    }

    /// What is shown of it.
    pub fn view(&self) -> &Arc<TargetView> {
        &self.view
    }

    /// The same, to be changed; copied if somebody still looks at it.
    pub fn view_mut(&mut self) -> &mut TargetView {
        Arc::make_mut(&mut self.view)
    }

    /// How it is read.
    pub fn watching(&self) -> Option<&Watched> {
        self.watched.as_ref()
    }

    /// How it is probed.
    pub fn governed_mut(&mut self) -> Option<&mut Governed> {
        self.governed.as_mut()
    }

    /// Whether it is, or may be, probed.
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

    /// What the rules said when they were last asked.
    pub fn decision(&self) -> Decision {
        self.decision
    }

    /// CPU time of the process so far, in nanoseconds; `None` once it has ended.
    pub fn cpu_ns(&self) -> Option<u64> {
        self.life.cpu_time_ns().ok()
    }

    /// Length of `allgs` when it was last read: how many g structs there were.
    pub fn goroutines(&self) -> Option<u64> {
        self.view.gauges.as_ref()?.allgs
    }

    /// Waits that its runtime has tracked since the last call, in how many nanoseconds; `None` where that was not
    /// read meanwhile.
    pub fn take_tracked(&mut self) -> Option<(u64, u64)> {
        let Tracked { waits, length_ns, .. } = self.tracked;
        (self.tracked.waits, self.tracked.length_ns) = (0, 0);
        (length_ns > 0).then_some((waits, length_ns))
    }

    /// A window begins now, whatever was before.
    pub fn begin_window(&mut self, now_ns: u64) -> Option<()> {
        let cpu_ns = self.cpu_ns()?;
        let _ = self.governed.as_mut()?.turn_window(now_ns, cpu_ns);
        Some(())
    }

    /// Takes in what its probes have seen: how many hits that were, and creation sites whose names are to be looked
    /// up.
    pub fn take_probed(&mut self, seen: &[Observation]) -> (u64, Vec<u64>) {
        let (Some(governed), Some(watched)) = (&mut self.governed, &self.watched) else {
            return (0, Vec::new());
        };
        let view = Arc::make_mut(&mut self.view);
        let (hits, unknown) = governed.take(seen, watched, view);
        view.hits = view.hits.saturating_add(hits);
        view.cost += Duration::from_nanos(hits.saturating_mul(governed.hit_ns));
        (hits, unknown)
    }

    /// Names of creation sites were looked up.
    pub fn learned(&mut self) {
        if let (Some(governed), Some(watched)) = (&mut self.governed, &self.watched) {
            governed.learned(watched, Arc::make_mut(&mut self.view));
        }
    }

    /// Says why it is not traced with more.
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

    /// A reading that somebody is to make: of the waits alone, or of `all`. `None` while one is being made, and where
    /// nothing can be read. `walk` is our CPU time per second that counting its goroutines may take.
    pub fn job(&mut self, all: bool, walk: Duration) -> Option<Job> {
        Some(Job {
            pid: self.pid(),
            target: self.id,
            passive: self.watched.as_mut()?.passive.take()?,
            all,
            walk,
        })
    }

    /// What the system says of the process.
    pub fn look(&mut self, now_ns: u64, hierarchies: &Hierarchies) {
        let cpu = self.life.cpu_time_ns();
        self.read_cgroups(now_ns, hierarchies);
        if let Ok(cpu) = cpu {
            self.view_mut().cpu = Duration::from_nanos(cpu);
        }
    }

    /// A reading was made.
    ///
    /// # Errors
    /// See [`Trouble`]; what was counted before stays.
    pub fn read(&mut self, done: Done) -> Result<(), Trouble> {
        let Done { job, at_ns, seen } = done;
        if let Some(watched) = &mut self.watched {
            watched.passive = Some(job.passive);
        }
        // Only now is it sure that all of that was read from this process and no later one of its PID, and from this
        // program and no later one of the process.
        if self.life.has_ended() {
            return Err(Trouble::Ended);
        }
        if self.life.has_execed() {
            return Err(Trouble::Replaced);
        }
        match seen {
            Ok(seen) => {
                self.take(&seen, at_ns);
                Ok(())
            }
            // It is about to end.
            Err(ObserveError::Read(ReadError::Gone { .. })) => Err(Trouble::Ended),
            Err(ObserveError::Read(e)) => Err(Trouble::Unreadable(e)),
            Err(ObserveError::Replaced { .. }) => Err(Trouble::Replaced),
        }
    }

    fn read_cgroups(&mut self, now_ns: u64, hierarchies: &Hierarchies) {
        let view = Arc::make_mut(&mut self.view);
        if now_ns >= self.limits_due_ns {
            self.limits_due_ns = now_ns.saturating_add(LIMITS_NS);
            let text = process::text_of(format!("/proc/{}/cgroup", self.life.pid()));
            let cgroups = hierarchies.of(&text.unwrap_or_default());
            self.throttling = cgroups.throttling();
            view.cgroup_cpus = cgroups.cpu_limit();
        }
        let throttled = self.throttling.iter().find_map(process::Throttling::read);
        view.throttling = throttled.map(|throttled| Throttling {
            periods: throttled.periods,
            throttled_periods: throttled.throttled_periods,
            throttled: Duration::from_nanos(throttled.time_ns),
        });
    }

    /// Takes in what was observed of its memory.
    fn take(&mut self, seen: &[Observation], at_ns: u64) {
        self.tracked.read(seen, at_ns);
        let view = Arc::make_mut(&mut self.view);
        for observation in seen {
            match &observation.kind {
                Kind::HistogramDelta(delta) => {
                    if let Some(waits) = &mut view.runtime_waits {
                        waits.add_delta(delta);
                    }
                }
                Kind::Snapshot(snapshot) => view.gauges = Some(snapshot.clone()),
                Kind::Loss(loss) => {
                    let lost = view.losses.entry(loss.cause).or_default();
                    *lost = lost.saturating_add(loss.count);
                }
                // Not of its memory's.
                Kind::Hits(_)
                | Kind::Event(_)
                | Kind::Transitions(_)
                | Kind::TransitionsSeen(_)
                | Kind::Stacks(_)
                | Kind::Scheduler(_) => {}
            }
        }
    }
}
