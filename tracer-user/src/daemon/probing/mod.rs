//! The probes on the targets of a host: carries out what their governors decide, with one load of the kernel side.

mod attach;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

pub use self::attach::program_of;
use super::{
    config::{Config, Tier},
    discovery::programs::AnalysedProgram,
    error_log::ErrorLog,
    governor::{Effect, Input, Step, allot},
    job::{Job, What},
    targets::{Target, Targets, settings, tier_of},
};
use crate::{
    plan::Mode,
    sources::{
        host::{HostEvents, HostKernel, SlotId},
        programs::program_for,
    },
};

/// Creation sites of one process whose names are to be looked up in its file.
#[derive(Debug)]
pub struct UnresolvedSites {
    /// The process.
    pub pid: u32,
    /// Its program.
    pub known: Arc<AnalysedProgram>,
    /// Link-time values of `g.gopc`.
    pub gopcs: Vec<u64>,
}

/// The probes on all targets.
pub struct Probing {
    kernel: HostKernel,
    /// The PID of each slot that is in use.
    by_slot: BTreeMap<SlotId, u32>,
    /// Attaches to be made, one for each turn of the loop: each takes some milliseconds.
    waiting: VecDeque<PendingAttach>,
    /// What a hit costs here, [low, high]; `None` where it could not be measured.
    prices: BTreeMap<Mode, Option<[u64; 2]>>,
    due_ns: u64,
}

/// An attach that a governor asked for.
#[derive(Debug)]
struct PendingAttach {
    pid: u32,
    /// [`Target::id`].
    target: u64,
    mode: Mode,
    /// The hit cap of the first window.
    hits: u64,
}

/// What the caller lends to [`Probing`], and what it gets back from it.
pub struct Context<'a> {
    /// Counts and logs errors.
    pub errors: &'a mut ErrorLog,
    /// Receives the creation sites whose names are to be looked up.
    pub unresolved: &'a mut Vec<UnresolvedSites>,
    /// Receives the readings that are to be made.
    pub jobs: &'a mut Vec<Job>,
    /// Receives the PIDs of targets whose probes are not in force any more, since the thread has ended that they were
    /// bound to: they are to be examined anew.
    pub unbound: &'a mut Vec<u32>,
    /// The time, CLOCK_MONOTONIC.
    pub now_ns: u64,
}

impl Probing {
    /// Creates it with nothing attached.
    pub fn new(kernel: HostKernel) -> Self {
        Self {
            kernel,
            by_slot: BTreeMap::new(),
            waiting: VecDeque::new(),
            prices: BTreeMap::new(),
            due_ns: 0,
        }
    }

    /// The kernel side.
    pub fn kernel(&self) -> &HostKernel {
        &self.kernel
    }

    /// The kernel side, mutably.
    pub fn kernel_mut(&mut self) -> &mut HostKernel {
        &mut self.kernel
    }

    /// The estimated cost of a hit of `sampled`, [low, high], if it was measured.
    pub fn hit_ns(&self) -> Option<[u64; 2]> {
        self.prices.get(&Mode::Sampled).copied().flatten()
    }

    /// When [`Self::tick`] has something to do.
    pub fn next_due(&self, targets: &Targets) -> u64 {
        match (self.waiting.is_empty(), targets.has_governed()) {
            (false, _) => 0,
            (true, true) => self.due_ns,
            (true, false) => u64::MAX,
        }
    }

    /// Informs the governors of the targets that the kernel has switched off.
    pub fn capped(&mut self, events: &HostEvents, targets: &mut Targets, cx: &mut Context<'_>) {
        for slot in &events.capped {
            let target = self.by_slot.get(slot).and_then(|pid| targets.get_mut(*pid));
            if let Some(target) = target {
                self.apply(target, Input::Capped, cx);
            }
        }
    }

    /// Applies a new configuration. Targets that it does not concern keep their probes.
    pub fn reconfigure(&mut self, config: &Config, targets: &mut Targets, cx: &mut Context<'_>) {
        self.due_ns = 0;
        for (_, target) in targets.iter_mut() {
            let rules = settings(config, target.decision());
            self.apply(target, Input::Rules(rules), cx);
        }
    }

    /// Removes the probes of a target.
    pub fn release(&mut self, target: &mut Target, cx: &mut Context<'_>) {
        let Some(slot) = target.governed_mut().and_then(|governed| governed.slot.take()) else {
            return;
        };
        self.by_slot.remove(&slot);
        if let Err(e) = self.kernel.detach(slot) {
            cx.errors.add("detach", &e, cx.now_ns);
        }
    }

    /// Makes the next attach, and ends the windows that are over.
    pub fn tick(&mut self, config: &Config, targets: &mut Targets, cx: &mut Context<'_>) {
        if let Some(pending) = self.waiting.pop_front() {
            self.attach(&pending, targets, cx);
        }
        if cx.now_ns < self.due_ns {
            return;
        }
        let interval = u64::try_from(config.tier.probe_interval.as_nanos()).unwrap_or(u64::MAX);
        self.due_ns = cx.now_ns.saturating_add(interval);
        let governed: Vec<u32> = targets
            .iter_mut()
            .filter_map(|(pid, target)| target.is_governed().then_some(pid))
            .collect();
        if governed.is_empty() {
            return;
        }
        self.measure_prices(config, cx);
        for pid in &governed {
            if let Some(target) = targets.get_mut(*pid) {
                self.end_window(target, cx);
                // So that the next window knows how many waits there were.
                cx.jobs.extend(target.job(What::Waits, Duration::ZERO));
            }
        }
        self.divide_budget(config, &governed, targets, cx);
        for pid in &governed {
            if let Some(target) = targets.get_mut(*pid) {
                target.explain(cx.now_ns);
            }
        }
    }

    /// Removes all probes, and waits until they are gone.
    pub fn stop(&mut self) {
        self.kernel.detach_all();
    }

    /// Measures what hits cost on this machine, if that was not done before.
    fn measure_prices(&mut self, config: &Config, cx: &mut Context<'_>) {
        let exact = config.target.iter().any(|rule| rule.tier == Some(Tier::Exact));
        for (mode, is_wanted) in [(Mode::Sampled, true), (Mode::Exact, exact)] {
            if !is_wanted || self.prices.contains_key(&mode) {
                continue;
            }
            let price = match self.kernel.cost_of(program_for(mode)) {
                Ok(cost) => Some(cost.hit_ns),
                Err(e) => {
                    cx.errors.add("calibrate", &e, cx.now_ns);
                    None
                }
            };
            self.prices.insert(mode, price);
        }
    }

    fn end_window(&mut self, target: &mut Target, cx: &mut Context<'_>) {
        let now_ns = cx.now_ns;
        // The process has ended, which will be reported.
        let Some(cpu_ns) = target.cpu_ns() else { return };
        let tracked = target.take_tracked();
        let hits = self.observe(target, cx);
        self.check_thread(target, cx);
        for (mode, price) in &self.prices {
            let Some([_, hit_ns]) = price else { continue };
            if let Some(governed) = target.governed_mut()
                && governed.slot.is_none()
            {
                let (mode, hit_ns) = (*mode, *hit_ns);
                let _ = governed.governor.handle(now_ns, Input::Priced { mode, hit_ns });
            }
        }
        let Some(governed) = target.governed_mut() else {
            return;
        };
        let Some(mut window) = governed.turn_window(now_ns, cpu_ns) else {
            return;
        };
        window.hits = hits;
        // The runtime is read at other times than the probes: only its rate counts.
        window.tracked_waits = tracked.map(|(waits, length_ns)| {
            let scaled = u128::from(waits) * u128::from(window.length_ns) / u128::from(length_ns.max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX)
        });
        self.apply(target, Input::WindowOver(window), cx);
    }

    /// Reports a target whose probes are not in force any more, since the thread has ended that they were bound to.
    fn check_thread(&mut self, target: &mut Target, cx: &mut Context<'_>) {
        let Some(slot) = target.governed_mut().and_then(|governed| governed.slot) else {
            return;
        };
        let Some(ended) = self.kernel.thread_ended(slot).filter(|ended| ended.is_lost) else {
            return;
        };
        let pid = target.pid();
        let unseen = format!(
            "since the thread {} has ended, the waits of process {pid} are not counted: its probes were bound to that thread",
            ended.thread
        );
        cx.errors.add("probes_unbound", &unseen, cx.now_ns);
        cx.unbound.push(pid);
    }

    /// Reads what the probes of a target have counted, and returns the number of hits.
    fn observe(&mut self, target: &mut Target, cx: &mut Context<'_>) -> u64 {
        let Some(slot) = target.governed_mut().and_then(|governed| governed.slot) else {
            return 0;
        };
        match self.kernel.observe(slot, cx.now_ns) {
            Ok(seen) => {
                let (hits, gopcs) = target.count_probed(&seen);
                if !gopcs.is_empty()
                    && let Some(watched) = target.watching()
                {
                    cx.unresolved.push(UnresolvedSites {
                        pid: target.pid(),
                        known: Arc::clone(&watched.known),
                        gopcs,
                    });
                }
                hits
            }
            Err(e) => {
                cx.errors.add("probes_unreadable", &e, cx.now_ns);
                0
            }
        }
    }

    /// Divides the host's budget among the governed targets.
    fn divide_budget(
        &mut self,
        config: &Config,
        governed: &[u32],
        targets: &mut Targets,
        cx: &mut Context<'_>,
    ) {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let budget = Duration::from_secs(1).mul_f64(config.budget.host.clamp(0.0, 1.0)) * cpus as u32;
        let (mut pids, mut demands) = (Vec::new(), Vec::new());
        for pid in governed {
            if let Some(governed) = targets.get_mut(*pid).and_then(Target::governed_mut) {
                pids.push(*pid);
                demands.push(governed.governor.demand(cx.now_ns));
            }
        }
        let shares = allot(u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX), &demands);
        for (pid, share) in pids.into_iter().zip(shares) {
            if let Some(target) = targets.get_mut(pid) {
                self.apply(target, Input::Share(share), cx);
            }
        }
    }

    /// Gives an input to a target's governor, and carries out the effects.
    fn apply(&mut self, target: &mut Target, input: Input, cx: &mut Context<'_>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(governed) = target.governed_mut() else {
                return;
            };
            for effect in governed.governor.handle(cx.now_ns, input) {
                if let Some(answer) = self.carry_out(target, effect, cx) {
                    inputs.push_back(answer);
                }
            }
        }
    }

    /// Carries out one effect. Returns the answer to it, if it is known already.
    fn carry_out(&mut self, target: &mut Target, effect: Effect, cx: &mut Context<'_>) -> Option<Input> {
        let slot = target.governed_mut().and_then(|governed| governed.slot);
        match effect {
            Effect::Attach { mode, hits } => {
                self.waiting.push_back(PendingAttach {
                    pid: target.pid(),
                    target: target.id(),
                    mode,
                    hits,
                });
                None
            }
            Effect::BeginWindow { hits } => {
                if let Err(e) = self.kernel.begin_window(slot?, hits) {
                    cx.errors.add("probes_unreadable", &e, cx.now_ns);
                }
                None
            }
            Effect::Detach => {
                if let Some(slot) = slot {
                    if let Err(e) = self.kernel.switch_off(slot) {
                        cx.errors.add("detach", &e, cx.now_ns);
                    }
                    self.observe(target, cx);
                    self.release(target, cx);
                }
                Some(Input::Detached)
            }
            Effect::Step(step) => {
                record_step(target, &step);
                None
            }
        }
    }
}

/// Counts and logs a change of tier.
fn record_step(target: &mut Target, step: &Step) {
    let (from, to) = (tier_of(step.from), tier_of(step.to));
    let view = target.view_mut();
    view.tier = to;
    let count = view.steps.entry((from, to)).or_default();
    *count = count.saturating_add(1);
    log::info!(
        "target {} ({}): from {} to {}: {}",
        view.name.pid,
        view.name.comm,
        from.name(),
        to.name(),
        step.reason
    );
}
