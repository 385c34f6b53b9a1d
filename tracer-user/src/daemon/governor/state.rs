//! The machine itself.

mod forecast;

use std::collections::BTreeMap;

use self::forecast::{ADMITTED, is_above};
use super::{
    Ask, Effect, Happening, Obstacle, Reason, Settings, Step, Window,
    budget::{SECOND, scale},
};
use crate::plan::{Mode, cost};

/// Cost of a window that is not waited for to come a second time, in percent of what is allowed.
const INTOLERABLE: u64 = 140;
/// Windows above what is allowed, one after the other, that are borne.
const BORNE: u32 = 1;
/// How long a tier is not tried again after it was left for its cost, the first time.
const FIRST_BACK_OFF: u64 = 30 * SECOND;
/// The longest such time; it doubles up to here.
const LONGEST_BACK_OFF: u64 = 3_600 * SECOND;

/// What one target is traced with.
#[derive(Clone, Debug, PartialEq)]
pub struct Governor {
    settings: Settings,
    /// How long `exact` is still to last.
    exact_left_ns: u64,
    prices: BTreeMap<Mode, u64>,
    impossible: BTreeMap<Mode, String>,
    back_off: BTreeMap<Mode, BackOff>,
    /// Of the host's budget.
    share_ns: u64,
    /// CPU time of the last window, to the second.
    cpu_ns: u64,
    /// Waits that the runtime tracks, to the second.
    waits: Option<u64>,
    /// The process is gone, whatever is still under way.
    ended: bool,
    state: State,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    /// Nothing is attached.
    Resting,
    /// `Attach` is under way. It cannot be called back: what comes meanwhile waits for its answer.
    Attaching {
        mode: Mode,
        hits: u64,
        fits: Reason,
        leave: Option<Reason>,
    },
    /// Attached.
    Probed(Probed),
    /// `Detach` is under way.
    Detaching,
}

#[derive(Clone, Debug, PartialEq)]
struct Probed {
    mode: Mode,
    since_ns: u64,
    /// The cap of this window.
    hits: u64,
    /// Cost of the last window, to the second.
    cost_ns: u64,
    /// Whether a window was seen from its begin to its end.
    judged: bool,
    /// Windows above what is allowed, one after the other.
    above: u32,
}

#[derive(Clone, Debug, PartialEq)]
struct BackOff {
    until_ns: u64,
    length_ns: u64,
    after: Reason,
}

impl Governor {
    /// Of a target of which nothing is known yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            exact_left_ns: settings.exact_ns,
            prices: BTreeMap::new(),
            impossible: BTreeMap::new(),
            back_off: BTreeMap::new(),
            share_ns: 0,
            cpu_ns: 0,
            waits: None,
            ended: false,
            state: State::Resting,
        }
    }

    /// What the target is traced with; `None`: it is not even read.
    pub fn tier(&self) -> Option<Mode> {
        match &self.state {
            _ if self.ended => None,
            State::Probed(probed) => Some(probed.mode),
            _ => self.settings.highest.map(|_| Mode::Passive),
        }
    }

    /// What stands in the way of the highest mode that the rules allow; `None`: nothing, or it is on its way.
    pub fn obstacle(&self, now_ns: u64) -> Option<Obstacle> {
        let wanted = match self.settings.highest {
            Some(Mode::Exact) if self.exact_left_ns == 0 => Mode::Sampled,
            Some(mode) => mode,
            None => return Some(Obstacle::NotAllowed),
        };
        match &self.state {
            _ if wanted == Mode::Passive => Some(Obstacle::NotAllowed),
            State::Probed(probed) if probed.mode >= wanted => None,
            _ => match self.forecast(wanted, now_ns) {
                Ok(forecast) => (!self.is_shared(&forecast)).then_some(Obstacle::HostBudget),
                Err(obstacle) => Some(obstacle),
            },
        }
    }

    /// What it asks of the host's budget.
    pub fn ask(&self, now_ns: u64) -> Ask {
        let with_room = |cost_ns: u64| cost_ns.saturating_mul(100) / ADMITTED;
        let (need_ns, holds) = match &self.state {
            State::Resting => {
                // For the cheapest: whether there is more is seen when it is granted.
                let wanted = [Mode::Exact, Mode::Sampled].map(|mode| self.forecast(mode, now_ns).ok());
                let predicted = wanted.into_iter().flatten().map(|forecast| forecast.predicted_ns);
                let need = predicted.min().map(|predicted| with_room(predicted).max(1));
                (need.unwrap_or(0), false)
            }
            State::Attaching { mode, .. } => {
                let predicted = self.predicted_ns(*mode).unwrap_or(0);
                (with_room(predicted).max(1), true)
            }
            State::Probed(probed) => {
                // Before a window is over there is but the forecast.
                let cost = match probed.judged {
                    true => probed.cost_ns,
                    false => self.predicted_ns(probed.mode).unwrap_or(0),
                };
                (with_room(cost).max(1), true)
            }
            State::Detaching => (0, false),
        };
        Ask { need_ns, holds }
    }

    /// What is to be done about `happening`.
    pub fn handle(&mut self, now_ns: u64, happening: Happening) -> Vec<Effect> {
        match happening {
            Happening::Rules(settings) => self.change_rules(now_ns, settings),
            Happening::Priced { mode, hit_ns } => {
                self.prices.insert(mode, hit_ns.max(1));
                vec![]
            }
            Happening::Impossible { mode, why } => {
                self.impossible.insert(mode, why);
                vec![]
            }
            Happening::Share(share_ns) => {
                self.share_ns = share_ns;
                match self.state {
                    State::Resting => self.consider(now_ns),
                    State::Attaching { .. } | State::Probed(_) if share_ns == 0 => {
                        self.leave(now_ns, Reason::HostBudget)
                    }
                    _ => vec![],
                }
            }
            Happening::WindowOver(window) => self.window_over(now_ns, &window),
            Happening::Capped => match &self.state {
                State::Probed(probed) => {
                    let hits = probed.hits;
                    self.leave(now_ns, Reason::Capped { hits })
                }
                // Of probes that are on their way out.
                _ => vec![],
            },
            Happening::Attached => self.attached(now_ns),
            Happening::AttachFailed { why } => self.attach_failed(now_ns, why),
            Happening::Detached => match self.state {
                State::Detaching => {
                    self.state = State::Resting;
                    self.consider(now_ns)
                }
                _ => vec![],
            },
            Happening::Ended => self.end(),
        }
    }

    fn change_rules(&mut self, now_ns: u64, settings: Settings) -> Vec<Effect> {
        if self.ended {
            return vec![];
        }
        let before = self.tier();
        let asked_anew =
            (settings.exact_ns, settings.highest) != (self.settings.exact_ns, self.settings.highest);
        self.settings = settings;
        if asked_anew {
            self.exact_left_ns = settings.exact_ns;
        }
        let mode = match &self.state {
            State::Attaching { mode, .. } => Some(*mode),
            State::Probed(probed) => Some(probed.mode),
            _ => None,
        };
        let mut effects = Vec::new();
        if mode.is_some_and(|mode| !self.may(mode)) {
            effects = self.leave(now_ns, Reason::Rule);
        }
        let after = self.tier();
        if effects.is_empty() && before != after {
            effects.push(Effect::Step(Step {
                from: before,
                to: after,
                reason: Reason::Rule,
            }));
        }
        if self.state == State::Resting {
            effects.extend(self.consider(now_ns));
        }
        effects
    }

    /// Attaches what can be had, the most telling first.
    fn consider(&mut self, now_ns: u64) -> Vec<Effect> {
        for mode in [Mode::Exact, Mode::Sampled] {
            let Ok(forecast) = self.forecast(mode, now_ns) else {
                continue;
            };
            if !self.is_shared(&forecast) {
                continue;
            }
            let hits = self.cap(mode);
            self.state = State::Attaching {
                mode,
                hits,
                fits: Reason::Fits {
                    predicted_ns: forecast.predicted_ns,
                    allowed_ns: forecast.allowed_ns.min(self.share_ns),
                },
                leave: None,
            };
            return vec![Effect::Attach { mode, hits }];
        }
        vec![]
    }

    /// Hits that are let through in the next window.
    fn cap(&self, mode: Mode) -> u64 {
        let allowed = scale(self.allowed_ns().min(self.share_ns), self.settings.window_ns);
        let price = self.prices.get(&mode).copied().unwrap_or(u64::MAX);
        (allowed / price.max(1)).max(1)
    }

    fn attached(&mut self, now_ns: u64) -> Vec<Effect> {
        let State::Attaching {
            mode,
            hits,
            fits,
            leave,
        } = self.state.clone()
        else {
            return self.unexpected("Attached");
        };
        if leave.is_some() {
            // Nothing was said of it yet.
            self.state = State::Detaching;
            return vec![Effect::Detach];
        }
        self.state = State::Probed(Probed {
            mode,
            since_ns: now_ns,
            hits,
            cost_ns: 0,
            judged: false,
            above: 0,
        });
        vec![Effect::Step(Step {
            from: Some(Mode::Passive),
            to: Some(mode),
            reason: fits,
        })]
    }

    fn attach_failed(&mut self, now_ns: u64, why: String) -> Vec<Effect> {
        let State::Attaching { mode, leave, .. } = self.state.clone() else {
            return self.unexpected("AttachFailed");
        };
        self.state = State::Resting;
        if leave.is_none() {
            self.back_off(now_ns, mode, Reason::AttachFailed { why });
        }
        vec![]
    }

    fn window_over(&mut self, now_ns: u64, window: &Window) -> Vec<Effect> {
        self.cpu_ns = window.per_second(window.cpu_ns);
        match &self.state {
            State::Resting => {
                self.waits = window.tracked_waits.map(|waits| window.per_second(waits));
                self.consider(now_ns)
            }
            State::Probed(_) => self.judge(now_ns, window),
            _ => vec![],
        }
    }

    /// What a window of a probed target has cost, and what follows from it.
    fn judge(&mut self, now_ns: u64, window: &Window) -> Vec<Effect> {
        let State::Probed(probed) = &mut self.state else {
            return vec![];
        };
        let mode = probed.mode;
        let price = self.prices.get(&mode).copied().unwrap_or(u64::MAX);
        let cost = window.hits.saturating_mul(price);
        let allowed = self
            .settings
            .budget
            .allowed_ns(window.cpu_ns, window.length_ns)
            .min(scale(self.share_ns, window.length_ns));
        probed.cost_ns = window.per_second(cost);
        // Probes came into the first window in its midst: only the cap judges it.
        let first = !std::mem::replace(&mut probed.judged, true);
        probed.above = match cost > allowed && !first {
            true => probed.above + 1,
            false => 0,
        };
        let intolerable = !first && is_above(cost, allowed, INTOLERABLE);
        if probed.above > BORNE || intolerable {
            let reason = Reason::OverBudget {
                cost_ns: window.per_second(cost),
                allowed_ns: window.per_second(allowed),
            };
            return self.leave(now_ns, reason);
        }
        let lasted = now_ns.saturating_sub(probed.since_ns);
        let hits = window.per_second(window.hits);
        self.waits = Some(match mode {
            Mode::Exact => (hits as f64 / (2.0 * cost::CYCLES_PER_TRACKED_WAIT[0])) as u64,
            _ => hits,
        });
        if mode == Mode::Exact && lasted >= self.exact_left_ns {
            return self.leave(now_ns, Reason::WindowElapsed);
        }
        if self
            .back_off
            .get(&mode)
            .is_some_and(|back_off| lasted >= back_off.length_ns)
        {
            self.back_off.remove(&mode);
        }
        let exact_fits = self
            .forecast(Mode::Exact, now_ns)
            .is_ok_and(|forecast| self.is_shared(&forecast));
        if mode == Mode::Sampled && exact_fits {
            // Asked for by a rule, and possible now.
            return self.leave(now_ns, Reason::Rule);
        }
        let hits = self.cap(mode);
        if let State::Probed(probed) = &mut self.state {
            probed.hits = hits;
        }
        vec![Effect::BeginWindow { hits }]
    }

    /// Down to `passive`, or to nothing.
    fn leave(&mut self, now_ns: u64, reason: Reason) -> Vec<Effect> {
        match &mut self.state {
            State::Attaching { leave, .. } => {
                leave.get_or_insert(reason);
                vec![]
            }
            State::Probed(probed) => {
                let mode = probed.mode;
                let lasted = now_ns.saturating_sub(probed.since_ns);
                if mode == Mode::Exact {
                    self.exact_left_ns = self.exact_left_ns.saturating_sub(lasted);
                }
                let was_dear = matches!(
                    reason,
                    Reason::Capped { .. } | Reason::OverBudget { .. } | Reason::HostBudget
                );
                if was_dear {
                    self.back_off(now_ns, mode, reason.clone());
                    // What was foreseen was wrong: nothing is attached before it was looked anew.
                    self.waits = None;
                }
                self.state = State::Detaching;
                let step = Step {
                    from: Some(mode),
                    to: self.tier(),
                    reason,
                };
                vec![Effect::Detach, Effect::Step(step)]
            }
            _ => vec![],
        }
    }

    /// Does not try a mode again for a while, each time twice as long.
    fn back_off(&mut self, now_ns: u64, mode: Mode, after: Reason) {
        let length_ns = self.back_off.get(&mode).map_or(FIRST_BACK_OFF, |before| {
            before.length_ns.saturating_mul(2).min(LONGEST_BACK_OFF)
        });
        self.back_off.insert(
            mode,
            BackOff {
                until_ns: now_ns.saturating_add(length_ns),
                length_ns,
                after,
            },
        );
    }

    fn end(&mut self) -> Vec<Effect> {
        if self.ended {
            return vec![];
        }
        let from = self.tier();
        self.ended = true;
        let mut effects = Vec::new();
        match &mut self.state {
            State::Attaching { leave, .. } => *leave = Some(Reason::Ended),
            State::Probed(_) => {
                self.state = State::Detaching;
                effects.push(Effect::Detach);
            }
            State::Resting | State::Detaching => {}
        }
        // Of one that was not even read there is nothing to say.
        effects.extend(from.map(|mode| {
            Effect::Step(Step {
                from: Some(mode),
                to: None,
                reason: Reason::Ended,
            })
        }));
        effects
    }

    fn unexpected(&mut self, what: &str) -> Vec<Effect> {
        log::debug!("governor: {what} while {:?}", self.state);
        vec![]
    }
}
