//! What each mode would do to the target.

use super::Found;
use crate::{
    binary::{Arch, Facts, Globals},
    doctor,
    document::inspection::{Activity, ModePlan, Prediction, SiteInfo},
    plan::{Attempt, Mode, Plan, Site, SiteKind, cost, passive, program::Reading, status},
};

/// What was found for each mode, or the attempts to find it.
pub(super) struct Plans {
    passive: Result<(), Vec<Attempt>>,
    probes: Plan,
    arch: Arch,
}

impl Plans {
    pub(super) fn of(facts: &Facts, reading: &Reading, globals: &Globals) -> Self {
        Self {
            passive: passive::passive(globals, reading.layout(), facts.version.minor),
            probes: reading.plan.clone(),
            arch: facts.arch,
        }
    }

    /// Returns sites, attempts and whether the binary allows the mode.
    fn of_mode(&self, mode: Mode) -> (&[Site], &[Attempt], bool) {
        match mode {
            Mode::Passive => match &self.passive {
                Ok(()) => (&[], &[], true),
                Err(attempts) => (&[], attempts, false),
            },
            Mode::Sampled => match &self.probes.sampled {
                Ok(found) => (&found.sites, &found.attempts, true),
                Err(attempts) => (&[], attempts, false),
            },
            Mode::Exact => match &self.probes.exact {
                Ok(sites) => (sites, &[], true),
                Err(attempts) => (&[], attempts, false),
            },
            Mode::Full => match &self.probes.full {
                Ok(full) => (&full.sites, &full.missing, true),
                Err(attempts) => (&[], attempts, false),
            },
        }
    }
}

/// Describes every mode, the cheapest first.
pub(super) fn all(found: &Found, activity: Option<&Activity>) -> Vec<ModePlan> {
    let machine = doctor::examine();
    Mode::ALL
        .into_iter()
        .map(|mode| {
            let (mut sites, attempts, in_binary) = found.plans.of_mode(mode);
            let mut candidates = found.candidates.iter().filter(|_| !in_binary);
            let candidate = candidates.find(|(_, plans)| plans.of_mode(mode).2);
            let mut obstacles = Vec::new();
            if let Some((layout, plans)) = candidate {
                sites = plans.of_mode(mode).0;
                obstacles.push(format!(
                    "the file alone does not prove it; it will be possible in a process whose memory confirms a layout \
                     such as {layout}"
                ));
            } else if !in_binary {
                obstacles.push("the binary does not allow it, see below".to_owned());
            }
            let in_the_way = obstacles.len();
            if Some(found.plans.arch) != Arch::of_this_machine() {
                obstacles.push(format!(
                    "it is for {}, and this machine is not",
                    found.plans.arch.name()
                ));
            }
            obstacles.extend(machine.obstacles(mode));
            let once_confirmed = candidate.is_some() && obstacles.len() == in_the_way;
            let hits_per_cycle = cost::hits_per_cycle(mode);
            let hit_ns = cost::hit_ns(sites, machine.hit_cost.get(&mode).copied());
            ModePlan {
                mode,
                possible: obstacles.is_empty(),
                possible_once_confirmed: once_confirmed.then_some(true),
                obstacles,
                tried: attempts.to_vec(),
                hits_per_cycle,
                cost_per_cycle_ns: hit_ns.map(|ns| (ns as f64 * hits_per_cycle).round() as u64),
                prediction: activity.map(|activity| predict(mode, hit_ns, activity)),
                sites: sites.iter().map(site_info).collect(),
            }
        })
        .collect()
}

/// Predicts the cost of a mode for a process that continues as it did while it was watched.
fn predict(mode: Mode, hit_ns: [u64; 2], activity: &Activity) -> Prediction {
    let seconds = activity.window_ns as f64 / 1e9;
    let rate = if seconds > 0.0 {
        activity.tracked_waits as f64 / seconds
    } else {
        0.0
    };
    let hits_per_second = cost::hits_per_second(mode, rate);
    let [low, high] = hits_per_second;
    let cpu = [low * hit_ns[0] as f64 / 1e9, high * hit_ns[1] as f64 / 1e9];
    let used = activity.cpu_ns as f64 / activity.window_ns.max(1) as f64;
    let cpu_ratio = (used > 0.0).then(|| cpu.map(|seconds| seconds / used));
    Prediction {
        hits_per_second,
        cpu,
        cpu_ratio,
    }
}

fn site_info(site: &Site) -> SiteInfo {
    SiteInfo {
        function: site.function.clone(),
        offset: site.offset,
        instruction: site.instruction.clone(),
        emulation: site.emulation,
        meaning: meaning(site),
    }
}

fn meaning(site: &Site) -> String {
    match (site.origin, site.kind) {
        (Some(origin), _) => format!("runnable: {}", origin.name()),
        (None, SiteKind::Entry) => site.what.map_or_else(String::new, |what| what.name().to_owned()),
        (None, SiteKind::TrackedWaitEnds) => "tracked wait ends".into(),
        (None, SiteKind::HistogramRecord | SiteKind::WaitRecorded) => "wait is recorded".into(),
        (None, SiteKind::StatusEntry | SiteKind::StatusCall) if site.statuses_in.0 != status::RUNNABLE => {
            "status changes".into()
        }
        (None, _) => "runnable ends".into(),
    }
}
