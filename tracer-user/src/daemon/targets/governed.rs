//! What a target is traced with beyond reading its memory: its governor, its probes, and what they have counted.

use std::collections::BTreeMap;

use super::Watched;
use crate::{
    daemon::{
        config::{Config, Tier},
        discovery::Decision,
        governor::{Budget, Governor, Happening, Settings, Window},
        view::TargetView,
    },
    latency::Histogram,
    plan::{Mode, told},
    sources::host::SlotId,
    stream::{HistogramKey, Kind, Observation},
};

/// Creation sites of one process that are told apart, over all the times that it is probed.
const MAX_SITES: usize = 512;
/// What creation sites are counted under that are not told apart.
pub const OTHER: &str = "other";
/// What creation sites are counted under that lie in no function of the program.
const UNKNOWN: &str = "unknown";

/// The probed side of a target.
#[derive(Debug)]
pub struct Governed {
    /// What decides.
    pub governor: Governor,
    /// Where the probes are, while there are any.
    pub slot: Option<SlotId>,
    /// What a hit costs, at the high side, in nanoseconds.
    pub hit_ns: u64,
    window: Option<Began>,
    /// Waits of creation sites whose names are being looked up, by the link-time value of `g.gopc`.
    unnamed: BTreeMap<u64, Histogram>,
}

/// How things stood when a window began.
#[derive(Clone, Copy, Debug)]
struct Began {
    at_ns: u64,
    cpu_ns: u64,
}

impl Governed {
    /// A process that no probe is on.
    pub fn new(config: &Config, decision: Decision, watched: &Watched) -> Self {
        let mut governor = Governor::new(settings(config, decision));
        let plan = &watched.reading().plan;
        let impossible = [
            (Mode::Sampled, plan.sampled.as_ref().err()),
            (Mode::Exact, plan.exact.as_ref().err()),
        ];
        for (mode, attempts) in impossible {
            if let Some(attempts) = attempts {
                let why = format!("no place to attach to was proven: {}", told(attempts));
                let _ = governor.handle(0, Happening::Impossible { mode, why });
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

    /// Ends a window and begins the next: how long it was, and the CPU time used in it. `None` for the first.
    pub fn turn_window(&mut self, now_ns: u64, cpu_ns: u64) -> Option<Window> {
        let began = self.window.replace(Began {
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

    /// Takes in what its probes have seen, and says how many hits that were. Names that are not known yet are
    /// returned, to be looked up.
    pub fn take(
        &mut self,
        seen: &[Observation],
        watched: &Watched,
        view: &mut TargetView,
    ) -> (u64, Vec<u64>) {
        let (mut hits, mut unknown) = (0u64, Vec::new());
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
                                unknown.push(link_time);
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
                | Kind::Scheduler(_) => {}
            }
        }
        (hits, unknown)
    }

    /// Names were looked up: what waited for them is counted under them. What has none by now is counted as unknown.
    pub fn learned(&mut self, watched: &Watched, view: &mut TargetView) {
        for (gopc, waits) in std::mem::take(&mut self.unnamed) {
            let name = watched.known.name(gopc).flatten();
            named(view, name.as_deref().unwrap_or(UNKNOWN), waits.scheme()).merge(&waits);
        }
    }
}

/// The histogram of a creation site, or of the others where there are too many.
fn named<'v>(view: &'v mut TargetView, name: &str, scheme: crate::stream::BucketScheme) -> &'v mut Histogram {
    let fits = view.sampled_waits.len() < MAX_SITES || view.sampled_waits.contains_key(name);
    let name = if fits { name } else { OTHER };
    view.sampled_waits
        .entry(name.to_owned())
        .or_insert_with(|| Histogram::new(scheme))
}

/// What was agreed to about a target, as the governor knows it.
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

/// The tier's name for a mode.
pub fn tier_of(mode: Option<Mode>) -> Tier {
    match mode {
        None => Tier::Off,
        Some(Mode::Passive) => Tier::Passive,
        Some(Mode::Sampled) => Tier::Sampled,
        // What costs no less; a governor never chooses it.
        Some(Mode::Exact | Mode::Full) => Tier::Exact,
    }
}
