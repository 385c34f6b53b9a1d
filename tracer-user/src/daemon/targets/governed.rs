//! The probed side of a target: its governor, its probes, and what they have counted.

use std::collections::BTreeMap;

use super::Watched;
use crate::{
    daemon::{
        config::{Config, Tier},
        discovery::Decision,
        governor::{Budget, Governor, Input, Settings, Window},
        view::TargetView,
    },
    latency::Histogram,
    plan::Mode,
    sources::host::SlotId,
    stream::{HistogramKey, Kind, Observation},
};

/// How many creation sites of one process are counted separately, over all the times that it is probed.
const MAX_SITES: usize = 512;
/// Why a program that can load plugins is not probed.
const PLUGINS: &str = "it can load plugins, each with its own copy of the scheduler's functions, and the daemon does not \
                       probe those; `gmpscope attach` does";
/// The name under which the other creation sites are counted.
pub const OTHER: &str = "other";
/// The name under which creation sites are counted that lie in no function of the program.
const UNKNOWN: &str = "unknown";

/// The probed side of a target.
#[derive(Debug)]
pub struct Governed {
    /// Decides what the target is traced with.
    pub governor: Governor,
    /// The slot of its probes, while it is probed.
    pub slot: Option<SlotId>,
    /// The high estimate of the cost of a hit, in nanoseconds.
    pub hit_ns: u64,
    window: Option<WindowStart>,
    /// Waits of creation sites whose names are being looked up, by the link-time value of `g.gopc`.
    unnamed: BTreeMap<u64, Histogram>,
}

/// When a window began, and the CPU time of the process then.
#[derive(Clone, Copy, Debug)]
struct WindowStart {
    at_ns: u64,
    cpu_ns: u64,
}

impl Governed {
    /// Creates the probed side of a process without probes.
    pub fn new(config: &Config, decision: Decision, watched: &Watched) -> Self {
        let mut governor = Governor::new(settings(config, decision));
        for mode in [Mode::Sampled, Mode::Exact] {
            let obstacle = watched.reading().plan.obstacle(mode);
            // Plugins may come at any time, and those that the daemon does not probe would make the figures wrong. Whether
            // there are any is in the process's memory, which may not be read here.
            let loads_plugins = watched.known.program.modules.is_some();
            let plugins = loads_plugins.then(|| PLUGINS.to_owned());
            if let Some(why) = obstacle.or(plugins) {
                let _ = governor.handle(0, Input::Impossible { mode, why });
            }
        }
        Self {
            governor,
            slot: None,
            hit_ns: 0,
            window: None,
            unnamed: BTreeMap::new(),
        }
    }

    /// Ends a window and begins the next. Returns its length and the CPU time used in it; `None` for the first.
    pub fn turn_window(&mut self, now_ns: u64, cpu_ns: u64) -> Option<Window> {
        let began = self.window.replace(WindowStart {
            at_ns: now_ns,
            cpu_ns,
        })?;
        Some(Window {
            length_ns: now_ns.saturating_sub(began.at_ns).max(1),
            cpu_ns: cpu_ns.saturating_sub(began.cpu_ns),
            hits: 0,
            tracked_waits: None,
        })
    }

    /// Counts what its probes have observed. Returns the number of hits, and the creation sites whose names are to be
    /// looked up.
    pub fn count(
        &mut self,
        seen: &[Observation],
        watched: &Watched,
        view: &mut TargetView,
    ) -> (u64, Vec<u64>) {
        let (mut hits, mut unresolved) = (0u64, Vec::new());
        for observation in seen {
            match &observation.kind {
                Kind::Hits(more) => hits = hits.saturating_add(*more),
                Kind::Loss(loss) => {
                    let lost = view.losses.entry(loss.cause).or_default();
                    *lost = lost.saturating_add(loss.count);
                }
                Kind::HistogramDelta(delta) => match delta.key {
                    HistogramKey::Origin(origin) => {
                        let empty = || Histogram::new(delta.scheme);
                        view.exact_waits
                            .entry(origin)
                            .or_insert_with(empty)
                            .add_delta(delta);
                    }
                    HistogramKey::CreationSite(0) => {
                        named(view, OTHER, delta.scheme).add_delta(delta);
                    }
                    HistogramKey::CreationSite(gopc) => {
                        let link_time = gopc.wrapping_sub(watched.bias);
                        match watched.known.name(link_time) {
                            Some(name) => {
                                let name = name.as_deref().unwrap_or(UNKNOWN);
                                named(view, name, delta.scheme).add_delta(delta);
                            }
                            None => {
                                let empty = || Histogram::new(delta.scheme);
                                self.unnamed
                                    .entry(link_time)
                                    .or_insert_with(empty)
                                    .add_delta(delta);
                                unresolved.push(link_time);
                            }
                        }
                    }
                    HistogramKey::All => {}
                },
                Kind::Snapshot(_)
                | Kind::Event(_)
                | Kind::Transitions(_)
                | Kind::TransitionsSeen(_)
                | Kind::Stacks(_)
                | Kind::Scheduler(_)
                | Kind::Throttling(_)
                | Kind::Ongoing(_)
                | Kind::CauseSamples(_) => {}
            }
        }
        (hits, unresolved)
    }

    /// Names were looked up: counts the waits of unnamed creation sites under them, or as unknown.
    pub fn names_resolved(&mut self, watched: &Watched, view: &mut TargetView) {
        for (gopc, waits) in std::mem::take(&mut self.unnamed) {
            let name = watched.known.name(gopc).flatten();
            named(view, name.as_deref().unwrap_or(UNKNOWN), waits.scheme()).merge(&waits);
        }
    }
}

/// The histogram of a creation site, or that of [`OTHER`] if there are too many sites.
fn named<'v>(view: &'v mut TargetView, name: &str, scheme: crate::stream::BucketScheme) -> &'v mut Histogram {
    let fits = view.sampled_waits.len() < MAX_SITES || view.sampled_waits.contains_key(name);
    let name = if fits { name } else { OTHER };
    view.sampled_waits
        .entry(name.to_owned())
        .or_insert_with(|| Histogram::new(scheme))
}

/// The governor's settings for a target, by the configuration and the rules.
pub fn settings(config: &Config, decision: Decision) -> Settings {
    let nanos = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Settings {
        budget: Budget {
            share: config.budget.target,
            floor_ns: nanos(config.budget.target_floor),
        },
        highest: match decision.tier {
            Tier::Off => None,
            Tier::Passive => Some(Mode::Passive),
            Tier::Sampled => Some(Mode::Sampled),
            Tier::Exact => Some(Mode::Exact),
        },
        exact_ns: match decision.tier {
            Tier::Exact => decision.window.map_or(0, nanos),
            _ => 0,
        },
        window_ns: nanos(config.tier.probe_interval),
    }
}

/// The tier that a mode belongs to.
pub fn tier_of(mode: Option<Mode>) -> Tier {
    match mode {
        None => Tier::Off,
        Some(Mode::Passive) => Tier::Passive,
        Some(Mode::Sampled) => Tier::Sampled,
        // A governor never chooses `full`.
        Some(Mode::Exact | Mode::Full) => Tier::Exact,
    }
}
