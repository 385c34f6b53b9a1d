//! Probes on the targets of a host: carries out what their governors decide, with one load of the kernel side.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{
    complaints::Complaints,
    config::{Config, Tier},
    discovery::programs::Known,
    governor::{Effect, Happening, Step, allot},
    reader::Job,
    targets::{Target, Targets, settings, tier_of},
};
use crate::{
    bpf::ProgramKind,
    error::{Error, Result},
    escape::Untrusted,
    plan::{Mode, told},
    process::file::ProgramFile,
    sources::{
        host::{Happened, HostKernel, SlotId},
        probes::{Request, config_of},
    },
};

/// Names of creation sites that are to be looked up in a file, for one process.
#[derive(Debug)]
pub struct Unknown {
    /// Whose they are.
    pub pid: u32,
    /// Its program.
    pub known: Arc<Known>,
    /// Link-time values of `g.gopc`.
    pub gopcs: Vec<u64>,
}

/// The probes of a host.
pub struct Probing {
    kernel: HostKernel,
    by_slot: BTreeMap<SlotId, u32>,
    /// Processes that are to be attached to, one at a time: each takes some milliseconds.
    waiting: VecDeque<Waiting>,
    /// What a hit costs here, [low, high]; `None` where it could not be measured.
    prices: BTreeMap<Mode, Option<[u64; 2]>>,
    due_ns: u64,
}

#[derive(Debug)]
struct Waiting {
    pid: u32,
    target: u64,
    mode: Mode,
    hits: u64,
}

/// What is at hand while effects are carried out.
pub struct With<'a> {
    /// Where errors go.
    pub complaints: &'a mut Complaints,
    /// Where names go that are to be looked up.
    pub unknown: &'a mut Vec<Unknown>,
    /// Where readings go that are to be made.
    pub jobs: &'a mut Vec<Job>,
    /// CLOCK_MONOTONIC.
    pub now_ns: u64,
}

impl Probing {
    /// Nothing is attached.
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

    /// The same, to be asked.
    pub fn kernel_mut(&mut self) -> &mut HostKernel {
        &mut self.kernel
    }

    /// What a hit of `sampled` is estimated to cost here, where that was asked for.
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

    /// The kernel has switched targets off.
    pub fn capped(&mut self, happened: &Happened, targets: &mut Targets, with: &mut With<'_>) {
        for slot in &happened.capped {
            let target = self.by_slot.get(slot).and_then(|pid| targets.get_mut(*pid));
            if let Some(target) = target {
                self.tell(target, Happening::Capped, with);
            }
        }
    }

    /// Another configuration is in force; what a target is not concerned by stays as it is.
    pub fn reconfigure(&mut self, config: &Config, targets: &mut Targets, with: &mut With<'_>) {
        self.due_ns = 0;
        for (_, target) in targets.iter_mut() {
            let rules = settings(config, target.decision());
            self.tell(target, Happening::Rules(rules), with);
        }
    }

    /// A target is let go: its probes are taken away.
    pub fn release(&mut self, target: &mut Target, with: &mut With<'_>) {
        let Some(slot) = target.governed_mut().and_then(|governed| governed.slot.take()) else {
            return;
        };
        self.by_slot.remove(&slot);
        if let Err(e) = self.kernel.detach(slot) {
            with.complaints.add("detach", &e, with.now_ns);
        }
    }

    /// Attaches to whoever waits for it, and ends a window where one is over.
    pub fn tick(&mut self, config: &Config, targets: &mut Targets, with: &mut With<'_>) {
        if let Some(waiting) = self.waiting.pop_front() {
            self.attach(&waiting, targets, with);
        }
        if with.now_ns < self.due_ns {
            return;
        }
        let interval = u64::try_from(config.tier.probe_interval.as_nanos()).unwrap_or(u64::MAX);
        self.due_ns = with.now_ns.saturating_add(interval);
        let concerned: Vec<u32> = targets
            .iter_mut()
            .filter_map(|(pid, target)| target.is_governed().then_some(pid))
            .collect();
        if concerned.is_empty() {
            return;
        }
        self.measure_prices(config, with);
        for pid in &concerned {
            if let Some(target) = targets.get_mut(*pid) {
                self.end_window(target, with);
                // For the next window.
                with.jobs.extend(target.job(false, Duration::ZERO));
            }
        }
        self.share_out(config, &concerned, targets, with);
        for pid in &concerned {
            if let Some(target) = targets.get_mut(*pid) {
                target.explain(with.now_ns);
            }
        }
    }

    /// Takes everything away, and waits for it.
    pub fn stop(&mut self) {
        self.kernel.detach_all();
    }

    /// What hits cost on this machine, once.
    fn measure_prices(&mut self, config: &Config, with: &mut With<'_>) {
        let exact = config.target.iter().any(|rule| rule.tier == Some(Tier::Exact));
        let wanted = [
            (Mode::Sampled, ProgramKind::Sampled, true),
            (Mode::Exact, ProgramKind::Exact, exact),
        ];
        for (mode, program, is_wanted) in wanted {
            if !is_wanted || self.prices.contains_key(&mode) {
                continue;
            }
            let price = match self.kernel.cost_of(program) {
                Ok(cost) => Some(cost.hit_ns),
                Err(e) => {
                    with.complaints.add("calibrate", &e, with.now_ns);
                    None
                }
            };
            self.prices.insert(mode, price);
        }
    }

    fn end_window(&mut self, target: &mut Target, with: &mut With<'_>) {
        let now_ns = with.now_ns;
        // Its end will be told.
        let Some(cpu_ns) = target.cpu_ns() else { return };
        let tracked = target.take_tracked();
        let hits = self.observe(target, with);
        for (mode, price) in &self.prices {
            let Some([_, hit_ns]) = price else { continue };
            if let Some(governed) = target.governed_mut()
                && governed.slot.is_none()
            {
                let (mode, hit_ns) = (*mode, *hit_ns);
                let _ = governed
                    .governor
                    .handle(now_ns, Happening::Priced { mode, hit_ns });
            }
        }
        let Some(governed) = target.governed_mut() else {
            return;
        };
        let Some(mut window) = governed.turn_window(now_ns, cpu_ns) else {
            return;
        };
        window.hits = hits;
        // Read at moments of its own: its rate is what counts.
        window.tracked_waits = tracked.map(|(waits, length_ns)| {
            let scaled = u128::from(waits) * u128::from(window.length_ns) / u128::from(length_ns.max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX)
        });
        self.tell(target, Happening::WindowOver(window), with);
    }

    /// Takes over what the probes of a target have counted; how many hits that were.
    fn observe(&mut self, target: &mut Target, with: &mut With<'_>) -> u64 {
        let Some(slot) = target.governed_mut().and_then(|governed| governed.slot) else {
            return 0;
        };
        match self.kernel.observe(slot, with.now_ns) {
            Ok(seen) => {
                let (hits, gopcs) = target.take_probed(&seen);
                if !gopcs.is_empty()
                    && let Some(watched) = target.watching()
                {
                    with.unknown.push(Unknown {
                        pid: target.pid(),
                        known: Arc::clone(&watched.known),
                        gopcs,
                    });
                }
                hits
            }
            Err(e) => {
                with.complaints.add("probes_unreadable", &e, with.now_ns);
                0
            }
        }
    }

    fn share_out(&mut self, config: &Config, concerned: &[u32], targets: &mut Targets, with: &mut With<'_>) {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let budget = Duration::from_secs(1).mul_f64(config.budget.host.clamp(0.0, 1.0)) * cpus as u32;
        let mut asks = Vec::with_capacity(concerned.len());
        for pid in concerned {
            let ask = targets
                .get_mut(*pid)
                .and_then(|target| Some(target.governed_mut()?.governor.ask(with.now_ns)));
            asks.extend(ask.map(|ask| (*pid, ask)));
        }
        let needs: Vec<_> = asks.iter().map(|(_, ask)| *ask).collect();
        let shares = allot(u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX), &needs);
        for ((pid, _), share) in asks.into_iter().zip(shares) {
            if let Some(target) = targets.get_mut(pid) {
                self.tell(target, Happening::Share(share), with);
            }
        }
    }

    /// Tells a governor, and does what it says.
    fn tell(&mut self, target: &mut Target, happening: Happening, with: &mut With<'_>) {
        let mut happenings = VecDeque::from([happening]);
        while let Some(happening) = happenings.pop_front() {
            let Some(governed) = target.governed_mut() else {
                return;
            };
            for effect in governed.governor.handle(with.now_ns, happening) {
                if let Some(answer) = self.carry_out(target, effect, with) {
                    happenings.push_back(answer);
                }
            }
        }
    }

    fn carry_out(&mut self, target: &mut Target, effect: Effect, with: &mut With<'_>) -> Option<Happening> {
        let slot = target.governed_mut().and_then(|governed| governed.slot);
        match effect {
            Effect::Attach { mode, hits } => {
                self.waiting.push_back(Waiting {
                    pid: target.pid(),
                    target: target.id(),
                    mode,
                    hits,
                });
                None
            }
            Effect::BeginWindow { hits } => {
                if let Err(e) = self.kernel.begin_window(slot?, hits) {
                    with.complaints.add("probes_unreadable", &e, with.now_ns);
                }
                None
            }
            Effect::Detach => {
                if let Some(slot) = slot {
                    if let Err(e) = self.kernel.switch_off(slot) {
                        with.complaints.add("detach", &e, with.now_ns);
                    }
                    self.observe(target, with);
                    self.release(target, with);
                }
                Some(Happening::Detached)
            }
            Effect::Step(step) => {
                take_step(target, &step);
                None
            }
        }
    }

    fn attach(&mut self, waiting: &Waiting, targets: &mut Targets, with: &mut With<'_>) {
        let Some(target) = targets.get_mut(waiting.pid) else {
            return;
        };
        if target.id() != waiting.target || target.governed_mut().is_none() {
            return;
        }
        let answer = match self.attach_to(waiting, target, with.now_ns) {
            Ok(slot) => {
                self.by_slot.insert(slot, waiting.pid);
                // Of its own kind of site.
                let cost = self.kernel.cost(slot);
                if let Some(governed) = target.governed_mut() {
                    governed.slot = Some(slot);
                    let usual = self.prices.get(&waiting.mode).copied().flatten();
                    let hit_ns = cost.ok().map(|cost| cost.hit_ns).or(usual);
                    governed.hit_ns = hit_ns.map_or(0, |[_, high]| high);
                    let (mode, hit_ns) = (waiting.mode, governed.hit_ns);
                    let _ = governed
                        .governor
                        .handle(with.now_ns, Happening::Priced { mode, hit_ns });
                }
                // The window counts from here on.
                let _ = target.begin_window(with.now_ns);
                Happening::Attached
            }
            Err(e) => {
                let file = target.watching().map(|watched| watched.known.file.id);
                let e = target.life().explain(e, file);
                with.complaints.add("attach", &e, with.now_ns);
                Happening::AttachFailed {
                    why: e.message.clone(),
                }
            }
        };
        self.tell(target, answer, with);
    }

    fn attach_to(&mut self, waiting: &Waiting, target: &Target, now_ns: u64) -> Result<SlotId> {
        let watched = target
            .watching()
            .ok_or_else(|| Error::not_traceable(format!("process {} is not read", waiting.pid)))?;
        let reading = watched.reading();
        let no_sites = |attempts| Error::not_traceable(format!("no place to attach to: {}", told(attempts)));
        let (program, sites) = match waiting.mode {
            Mode::Full => {
                return Err(Error::failed("the daemon does not trace with full".to_owned()));
            }
            Mode::Exact => (
                ProgramKind::Exact,
                reading.plan.exact.as_deref().map_err(|e| no_sites(e))?,
            ),
            Mode::Sampled | Mode::Passive => (
                ProgramKind::Sampled,
                reading
                    .plan
                    .sampled
                    .as_ref()
                    .map(|sampled| sampled.sites.as_slice())
                    .map_err(|e| no_sites(e))?,
            ),
        };
        let file = program_of(waiting.pid, &watched.known)?;
        if target.life().has_ended() || target.life().has_execed() {
            return Err(Error::not_traceable(format!(
                "process {} has ended or become another program",
                waiting.pid
            )));
        }
        let request = Request {
            pid: waiting.pid,
            file: file.file(),
            program,
            sites,
            bias: watched.bias,
            config: config_of(
                reading.layout(),
                reading.tracking_stamp(),
                &watched.globals,
                watched.bias,
            ),
            goroutines: target.goroutines().unwrap_or(u64::MAX),
        };
        self.kernel.attach(&request, Some(waiting.hits), now_ns)
    }
}

/// The file that a process runs, if that is still the very file that was analysed.
pub fn program_of(pid: u32, known: &Known) -> Result<ProgramFile> {
    let path = PathBuf::from(format!("/proc/{pid}/exe"));
    let file = ProgramFile::open_as(&path, Untrusted::path(&path))?;
    if file.state() != known.file {
        return Err(Error::not_traceable(format!(
            "process {pid} runs another program by now, or its file was written to"
        )));
    }
    Ok(file)
}

fn take_step(target: &mut Target, step: &Step) {
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
