//! One Go process that is watched, and all that was counted of it.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use super::Governed;
use crate::{
    daemon::{
        config::{Config, Tier},
        discovery::{
            Decision, Looked, Placed, decide,
            look::{Found, Identity, Refused},
            programs::Known,
        },
        view::{Name, TargetView, Throttling},
    },
    latency::Histogram,
    memory::{Memory as _, ProcessMemory, ReadError},
    plan::program::Reading,
    sources::passive::{ObserveError, PassiveSource},
    stream::{Kind, Observation},
    target::{
        Globals,
        process::{Cgroups, Hierarchies, Life},
    },
};

/// Limits of cgroups are seldom changed: they are read this often.
const LIMITS_NS: u64 = 60_000_000_000;

/// A process.
#[derive(Debug)]
pub struct Target {
    life: Life,
    view: Arc<TargetView>,
    placed: Placed,
    decision: Decision,
    /// How it is read; `None` for a Go program that cannot be.
    watched: Option<Watched>,
    /// How it is probed.
    governed: Option<Governed>,
    /// Waits that its runtime has tracked since they were last asked for.
    tracked: Option<u64>,
    cgroups: Cgroups,
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
    passive: PassiveSource<ProcessMemory>,
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
            passive,
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
            comm: life.comm().to_owned(),
            pid: life.pid().unsigned_abs(),
            start_time: life.start_time(),
            uid: life.uid(),
            container: placed.container.clone(),
            pod: placed.pod.clone(),
        };
        Self {
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
            tracked: None,
            cgroups: Cgroups::default(),
            limits_due_ns: 0,
            troubles: 0,
        }
    }

    /// What the rules say about it now; they may have changed.
    pub fn decide(&mut self, config: &Config) -> Decision {
        let name = &self.view.name;
        let looked = Looked {
            exe: &name.exe,
            comm: &name.comm,
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

    /// Length of `allgs` now: how many g structs there are.
    pub fn goroutines(&self) -> Option<u64> {
        let watched = self.watched.as_ref()?;
        let allgs = watched.globals.allgs?.wrapping_add(watched.bias);
        ProcessMemory::new(self.pid())
            .read_u64(allgs.wrapping_add(8))
            .ok()
    }

    /// Waits that its runtime has tracked since the last call; `None` where that cannot be read, or is for the first
    /// time.
    pub fn tracked_waits(&mut self, now_ns: u64) -> Option<u64> {
        let seen = self.watched.as_mut()?.passive.observe_waits(now_ns).ok()?;
        self.take(&seen);
        self.tracked.replace(0).filter(|_| !seen.is_empty())
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

    /// Reads the runtime's memory and what the system says of the process. `walk` is our CPU time per second that
    /// counting its goroutines may take.
    ///
    /// # Errors
    /// See [`Trouble`]; what was counted before stays.
    pub fn read(&mut self, now_ns: u64, walk: Duration, hierarchies: &Hierarchies) -> Result<(), Trouble> {
        if self.life.has_execed() {
            return Err(Trouble::Replaced);
        }
        let seen = match &mut self.watched {
            Some(watched) => {
                watched.passive.allow_walk(walk);
                watched.passive.observe(now_ns)
            }
            None => Ok(Vec::new()),
        };
        // Only now is it sure that all of that was read from this process and no later one of its PID.
        if self.life.has_ended() {
            return Err(Trouble::Ended);
        }
        match seen {
            Ok(seen) => self.take(&seen),
            // It is about to end.
            Err(ObserveError::Read(ReadError::Gone { .. })) => return Err(Trouble::Ended),
            Err(ObserveError::Read(e)) => return Err(Trouble::Unreadable(e)),
            Err(ObserveError::Replaced { .. }) => return Err(Trouble::Replaced),
        }
        let cpu = self.life.cpu_time_ns();
        self.read_cgroups(now_ns, hierarchies);
        let view = Arc::make_mut(&mut self.view);
        if let Ok(cpu) = cpu {
            view.cpu = Duration::from_nanos(cpu);
        }
        Ok(())
    }

    fn read_cgroups(&mut self, now_ns: u64, hierarchies: &Hierarchies) {
        let view = Arc::make_mut(&mut self.view);
        if now_ns >= self.limits_due_ns {
            self.limits_due_ns = now_ns.saturating_add(LIMITS_NS);
            let text = fs::read_to_string(format!("/proc/{}/cgroup", self.life.pid()));
            self.cgroups = hierarchies.of(&text.unwrap_or_default());
            view.cgroup_cpus = self.cgroups.cpu_limit();
        }
        view.throttling = self.cgroups.throttled().map(|throttled| Throttling {
            periods: throttled.periods,
            throttled_periods: throttled.throttled_periods,
            throttled: Duration::from_nanos(throttled.time_ns),
        });
    }

    /// Takes in what was observed of its memory.
    fn take(&mut self, seen: &[Observation]) {
        let view = Arc::make_mut(&mut self.view);
        for observation in seen {
            match &observation.kind {
                Kind::HistogramDelta(delta) => {
                    let new = delta.counts.iter().map(|(_, count)| count);
                    let new = new.fold(0u64, |sum, count| sum.saturating_add(*count));
                    self.tracked = self.tracked.map(|before| before.saturating_add(new));
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
                Kind::Hits(_) | Kind::Event(_) | Kind::Transitions(_) | Kind::Scheduler(_) => {}
            }
        }
    }
}
