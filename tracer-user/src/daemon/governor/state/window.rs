//! What follows from the cost of a window.

use super::{
    super::{Effect, Reason, Window, budget::scale},
    Governor, State,
    forecast::is_above,
};
use crate::plan::{Mode, cost};

/// Cost of a window after which probes are removed at once, in percent of what is allowed.
const INTOLERABLE_PERCENT: u64 = 140;
/// How many windows in a row may cost more than is allowed.
const TOLERATED_WINDOWS: u32 = 1;

impl Governor {
    /// Takes in what was measured in a window that has ended.
    pub(super) fn window_over(&mut self, now_ns: u64, window: &Window) -> Vec<Effect> {
        self.cpu_ns = window.per_second(window.cpu_ns);
        match &self.state {
            State::Idle => {
                self.waits = window.tracked_waits.map(|waits| window.per_second(waits));
                self.try_attach(now_ns)
            }
            State::Probed(_) => self.judge(now_ns, window),
            _ => vec![],
        }
    }

    /// Compares what a window of a probed target cost with what is allowed, and acts on it.
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
        // Probes were attached in the middle of the first window: only the hit cap limits it.
        let is_first = !std::mem::replace(&mut probed.judged, true);
        probed.above = match cost > allowed && !is_first {
            true => probed.above + 1,
            false => 0,
        };
        let is_intolerable = !is_first && is_above(cost, allowed, INTOLERABLE_PERCENT);
        if probed.above > TOLERATED_WINDOWS || is_intolerable {
            let reason = Reason::OverBudget {
                cost_ns: window.per_second(cost),
                allowed_ns: window.per_second(allowed),
            };
            return self.step_down(now_ns, reason);
        }
        let attached_ns = now_ns.saturating_sub(probed.since_ns);
        let hits = window.per_second(window.hits);
        self.waits = Some(match mode {
            Mode::Exact => (hits as f64 / (2.0 * cost::CYCLES_PER_TRACKED_WAIT[0])) as u64,
            _ => hits,
        });
        if mode == Mode::Exact && attached_ns >= self.exact_left_ns {
            return self.step_down(now_ns, Reason::WindowElapsed);
        }
        if self
            .back_off
            .get(&mode)
            .is_some_and(|back_off| attached_ns >= back_off.length_ns)
        {
            self.back_off.remove(&mode);
        }
        let exact_fits = self
            .forecast(Mode::Exact, now_ns)
            .is_ok_and(|forecast| self.fits_host_budget(&forecast));
        if mode == Mode::Sampled && exact_fits {
            // A rule asks for `exact`, and now it fits.
            return self.step_down(now_ns, Reason::Rule);
        }
        let hits = self.cap(mode);
        if let State::Probed(probed) = &mut self.state {
            probed.hits = hits;
        }
        vec![Effect::BeginWindow { hits }]
    }
}
