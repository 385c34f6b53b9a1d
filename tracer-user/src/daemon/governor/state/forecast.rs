//! What a mode may be expected to cost, before it is attached.

use super::Governor;
use crate::{
    daemon::governor::{
        Obstacle,
        budget::{ADMITTED_PERCENT, SECOND},
    },
    plan::{Mode, cost},
};

impl Governor {
    /// Whether the rules allow a mode.
    pub(super) fn is_allowed(&self, mode: Mode) -> bool {
        !self.ended
            && self.settings.highest.is_some_and(|highest| mode <= highest)
            && (mode != Mode::Exact || self.exact_left_ns > 0)
    }

    /// What a mode is expected to cost per second.
    pub(super) fn predicted_ns(&self, mode: Mode) -> Option<u64> {
        let price = *self.prices.get(&mode)?;
        let [_, hits] = cost::hits_per_second(mode, self.waits? as f64);
        Some((hits as u64).saturating_mul(price))
    }

    /// What the target's own budget allows per second.
    pub(super) fn allowed_ns(&self) -> u64 {
        self.settings.budget.allowed_ns(self.cpu_ns, SECOND)
    }

    /// What a mode is expected to cost, or why it cannot be attached. The host's budget is not considered.
    pub(super) fn forecast(&self, mode: Mode, now_ns: u64) -> Result<Forecast, Obstacle> {
        if !self.is_allowed(mode) {
            return Err(Obstacle::NotAllowed);
        }
        if let Some(why) = self.impossible.get(&mode) {
            return Err(Obstacle::Impossible { why: why.clone() });
        }
        if !self.prices.contains_key(&mode) {
            return Err(Obstacle::NotPriced);
        }
        if let Some(back_off) = self.back_off.get(&mode)
            && back_off.until_ns > now_ns
        {
            return Err(Obstacle::BackOff {
                until_ns: back_off.until_ns,
                after: back_off.after.clone(),
            });
        }
        let predicted_ns = self.predicted_ns(mode).ok_or(Obstacle::NotMeasured)?;
        let allowed_ns = self.allowed_ns();
        if is_above(predicted_ns, allowed_ns, ADMITTED_PERCENT) {
            return Err(Obstacle::DoesNotFit {
                predicted_ns,
                allowed_ns,
            });
        }
        Ok(Forecast {
            predicted_ns,
            allowed_ns,
        })
    }

    /// Whether the target's share of the host's budget is large enough for it.
    pub(super) fn fits_host_budget(&self, forecast: &Forecast) -> bool {
        self.share_ns > 0 && forecast.predicted_ns <= self.share_ns
    }
}

/// What a mode is expected to cost, and what is allowed, per second.
pub(super) struct Forecast {
    pub(super) predicted_ns: u64,
    pub(super) allowed_ns: u64,
}

/// Whether `cost` is above `percent` of what is allowed.
pub(super) fn is_above(cost: u64, allowed: u64, percent: u64) -> bool {
    u128::from(cost) * 100 > u128::from(allowed) * u128::from(percent)
}
