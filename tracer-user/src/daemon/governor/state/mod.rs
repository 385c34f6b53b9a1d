//! The state machine of one target. What windows cost is in `window`, what a mode may cost in `forecast`, and when a
//! mode is tried again in `back_off`.

mod back_off;
mod forecast;
mod window;

use std::collections::BTreeMap;

use self::back_off::BackOff;
use super::{
    Demand, Effect, Input, Obstacle, Reason, Settings, Step,
    budget::{ADMITTED_PERCENT, scale},
};
use crate::plan::Mode;

/// Decides what one target is traced with.
#[derive(Clone, Debug, PartialEq)]
pub struct Governor {
    settings: Settings,
    /// How much longer `exact` may run.
    exact_left_ns: u64,
    prices: BTreeMap<Mode, u64>,
    impossible: BTreeMap<Mode, String>,
    back_off: BTreeMap<Mode, BackOff>,
    /// The target's share of the host's budget, per second.
    share_ns: u64,
    /// CPU time of the target in the last window, per second.
    cpu_ns: u64,
    /// Waits that the runtime tracks, per second; `None` until they were measured.
    waits: Option<u64>,
    /// Whether the process has ended; an attach or detach may still be under way.
    ended: bool,
    state: State,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    /// Nothing is attached.
    Idle,
    /// `Attach` is under way. It cannot be cancelled: what has to be done meanwhile waits for its answer.
    Attaching {
        mode: Mode,
        hits: u64,
        fits: Reason,
        /// Why to detach as soon as it is attached.
        leave: Option<Reason>,
    },
    /// Probes are attached.
    Probed(Probed),
    /// `Detach` is under way.
    Detaching,
}

#[derive(Clone, Debug, PartialEq)]
struct Probed {
    mode: Mode,
    since_ns: u64,
    /// The hit cap of this window.
    hits: u64,
    /// Cost of the last window, per second.
    cost_ns: u64,
    /// Whether a window has ended since probes were attached.
    judged: bool,
    /// How many windows in a row cost more than is allowed.
    above: u32,
}

impl Governor {
    /// Creates the governor of a target that nothing is known about yet.
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
            state: State::Idle,
        }
    }

    /// What the target is traced with; `None` if it is not even read.
    pub fn tier(&self) -> Option<Mode> {
        match &self.state {
            _ if self.ended => None,
            State::Probed(probed) => Some(probed.mode),
            _ => self.settings.highest.map(|_| Mode::Passive),
        }
    }

    /// What prevents the highest mode that the rules allow; `None` if it is attached, or can be.
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
                Ok(forecast) => (!self.fits_host_budget(&forecast)).then_some(Obstacle::HostBudget),
                Err(obstacle) => Some(obstacle),
            },
        }
    }

    /// How much of the host's budget the target needs.
    pub fn demand(&self, now_ns: u64) -> Demand {
        let with_room = |cost_ns: u64| cost_ns.saturating_mul(100) / ADMITTED_PERCENT;
        let (need_ns, is_probed) = match &self.state {
            State::Idle => {
                // Asks for the cheapest mode; whether a dearer one fits is decided when the share is known.
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
                // Until a window has ended, only the forecast is known.
                let cost = match probed.judged {
                    true => probed.cost_ns,
                    false => self.predicted_ns(probed.mode).unwrap_or(0),
                };
                (with_room(cost).max(1), true)
            }
            State::Detaching => (0, false),
        };
        Demand { need_ns, is_probed }
    }

    /// Applies `input`, and returns what is to be done about it.
    pub fn handle(&mut self, now_ns: u64, input: Input) -> Vec<Effect> {
        match input {
            Input::Rules(settings) => self.change_rules(now_ns, settings),
            Input::Priced { mode, hit_ns } => {
                self.prices.insert(mode, hit_ns.max(1));
                vec![]
            }
            Input::Impossible { mode, why } => {
                self.impossible.insert(mode, why);
                vec![]
            }
            Input::Share(share_ns) => {
                self.share_ns = share_ns;
                match self.state {
                    State::Idle => self.try_attach(now_ns),
                    State::Attaching { .. } | State::Probed(_) if share_ns == 0 => {
                        self.step_down(now_ns, Reason::HostBudget)
                    }
                    _ => vec![],
                }
            }
            Input::WindowOver(window) => self.window_over(now_ns, &window),
            Input::Capped => match &self.state {
                State::Probed(probed) => {
                    let hits = probed.hits;
                    self.step_down(now_ns, Reason::Capped { hits })
                }
                // These probes are being removed already.
                _ => vec![],
            },
            Input::Attached => self.attached(now_ns),
            Input::AttachFailed { why } => self.attach_failed(now_ns, why),
            Input::Detached => match self.state {
                State::Detaching => {
                    self.state = State::Idle;
                    self.try_attach(now_ns)
                }
                _ => vec![],
            },
            Input::Ended => self.end(),
        }
    }

    fn change_rules(&mut self, now_ns: u64, settings: Settings) -> Vec<Effect> {
        if self.ended {
            return vec![];
        }
        let before = self.tier();
        let has_new_request =
            (settings.exact_ns, settings.highest) != (self.settings.exact_ns, self.settings.highest);
        self.settings = settings;
        if has_new_request {
            self.exact_left_ns = settings.exact_ns;
        }
        let mode = match &self.state {
            State::Attaching { mode, .. } => Some(*mode),
            State::Probed(probed) => Some(probed.mode),
            _ => None,
        };
        let mut effects = Vec::new();
        if mode.is_some_and(|mode| !self.is_allowed(mode)) {
            effects = self.step_down(now_ns, Reason::Rule);
        }
        let after = self.tier();
        if effects.is_empty() && before != after {
            effects.push(Effect::Step(Step {
                from: before,
                to: after,
                reason: Reason::Rule,
            }));
        }
        if self.state == State::Idle {
            effects.extend(self.try_attach(now_ns));
        }
        effects
    }

    /// Attaches the most detailed mode that fits, if there is one.
    fn try_attach(&mut self, now_ns: u64) -> Vec<Effect> {
        for mode in [Mode::Exact, Mode::Sampled] {
            let Ok(forecast) = self.forecast(mode, now_ns) else {
                continue;
            };
            if !self.fits_host_budget(&forecast) {
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

    /// The hit cap of the next window.
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
            // No step to this mode was reported, so none back is either.
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
        self.state = State::Idle;
        if leave.is_none() {
            self.back_off(now_ns, mode, Reason::AttachFailed { why });
        }
        vec![]
    }

    /// Does not try a mode again for a while, each time twice as long.
    fn back_off(&mut self, now_ns: u64, mode: Mode, after: Reason) {
        let back_off = BackOff::new(now_ns, self.back_off.get(&mode), after);
        self.back_off.insert(mode, back_off);
    }

    /// Steps down to `passive`, or to nothing if the rules allow nothing.
    fn step_down(&mut self, now_ns: u64, reason: Reason) -> Vec<Effect> {
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
                    // The forecast was wrong: nothing is attached until waits were measured again.
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

    /// Removes the probes of a process that has ended.
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
            State::Idle | State::Detaching => {}
        }
        // A target that was not even read takes no step.
        effects.extend(from.map(|mode| {
            Effect::Step(Step {
                from: Some(mode),
                to: None,
                reason: Reason::Ended,
            })
        }));
        effects
    }

    /// Ignores an answer that nothing asked for.
    fn unexpected(&mut self, what: &str) -> Vec<Effect> {
        log::debug!("governor: {what} while {:?}", self.state);
        vec![]
    }
}
