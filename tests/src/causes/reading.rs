//! The causes in a capture, as a reader of its JSON sees them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tracer_user::model::sched::Cause;

use crate::run::Outcome;

/// The parts of a capture's JSON that are about causes.
#[derive(Clone, Debug, Deserialize)]
pub struct Reading {
    by_cause: BTreeMap<String, CauseTime>,
    full: Full,
}

/// The time of one cause.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct CauseTime {
    total_ns: u64,
    #[serde(default)]
    ongoing_ns: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Full {
    causes: Totals,
}

/// All waiting to run, which is computed apart from the causes.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Totals {
    runnable_ns: u64,
    imbalance_ns: i64,
}

impl Reading {
    /// Reads the causes of a capture in mode `full`.
    ///
    /// # Errors
    /// It was not successful, is not complete, or has no causes.
    pub fn of(outcome: &Outcome) -> Result<Self> {
        ensure!(
            outcome.code() == 0,
            "gmpscope ended with status {}. It said:\n{}",
            outcome.code(),
            outcome.stderr
        );
        let json = outcome.json.as_deref().context("gmpscope wrote no capture")?;
        Self::parse(json).with_context(|| format!("the causes in {json}"))
    }

    fn parse(json: &str) -> Result<Self> {
        let reading: Self = serde_json::from_str(json)?;
        for name in reading.by_cause.keys() {
            Cause::named(name).with_context(|| format!("{name:?} is not the name of a cause"))?;
        }
        Ok(reading)
    }

    /// How long goroutines waited for this cause, all together.
    pub fn total_ns(&self, cause: Cause) -> u64 {
        self.by_cause.get(cause.name()).map_or(0, |time| time.total_ns)
    }

    /// How long goroutines were Runnable, all together: the sum of all causes.
    pub fn sum_ns(&self) -> u64 {
        self.by_cause.values().map(|time| time.total_ns).sum()
    }

    /// The share that a cause has in all waiting but voluntary yields, which are not waiting; that of voluntary yields
    /// themselves in everything.
    pub fn share(&self, cause: Cause) -> f64 {
        let whole_ns = match cause {
            Cause::Yielded => self.sum_ns(),
            _ => self.sum_ns() - self.total_ns(Cause::Yielded),
        };
        self.total_ns(cause) as f64 / whole_ns.max(1) as f64
    }

    /// The identities that do not hold, however busy the machine is.
    pub fn violations(&self) -> Vec<String> {
        let Totals {
            runnable_ns,
            imbalance_ns,
        } = self.full.causes;
        let mut violations = Vec::new();
        let sum_ns = i128::from(self.sum_ns());
        if sum_ns != i128::from(runnable_ns) + i128::from(imbalance_ns) {
            violations.push(format!(
                "the causes add up to {sum_ns} ns, and goroutines were runnable for {runnable_ns} ns, with an imbalance of \
                 {imbalance_ns} ns"
            ));
        }
        if imbalance_ns != 0 {
            violations.push(format!("the imbalance is {imbalance_ns} ns"));
        }
        if runnable_ns == 0 {
            violations.push("no goroutine was ever runnable".to_owned());
        }
        for (name, CauseTime { total_ns, ongoing_ns }) in &self.by_cause {
            if ongoing_ns > total_ns {
                violations.push(format!("{name}: {ongoing_ns} ns of {total_ns} ns are ongoing"));
            }
        }
        violations
    }

    /// Describes the shares, the largest first, for whoever reads the output of a test.
    pub fn describe(&self) -> String {
        let seen = Cause::ALL.into_iter().filter(|cause| self.total_ns(*cause) > 0);
        let mut shares: Vec<(f64, Cause)> = seen.map(|cause| (self.share(cause), cause)).collect();
        shares.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let shares: Vec<String> = shares
            .iter()
            .map(|(share, cause)| format!("{} {:.2} %", cause.name(), 100.0 * share))
            .collect();
        format!("{} ms: {}", self.sum_ns() / 1_000_000, shares.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(by_cause: &str, runnable_ns: u64, imbalance_ns: i64) -> Result<Reading> {
        Reading::parse(&format!(
            r#"{{"by_cause":{by_cause},"full":{{"causes":{{"runnable_ns":{runnable_ns},"imbalance_ns":{imbalance_ns}}}}}}}"#
        ))
    }

    const THREE: &str =
        r#"{"yielded":{"total_ns":600},"gc":{"total_ns":300,"ongoing_ns":40},"p_busy":{"total_ns":100}}"#;

    #[test]
    fn yields_have_a_share_of_everything_and_others_of_the_rest() {
        let reading = capture(THREE, 1_000, 0).unwrap();
        assert_eq!(reading.share(Cause::Yielded), 0.6);
        assert_eq!(reading.share(Cause::Gc), 0.75);
        assert_eq!(reading.share(Cause::Stw), 0.0);
        assert!(reading.violations().is_empty());
        assert_eq!(
            reading.describe(),
            "0 ms: gc 75.00 %, yielded 60.00 %, p_busy 25.00 %"
        );
    }

    #[test]
    fn what_does_not_add_up_is_a_violation() {
        assert_eq!(capture(THREE, 999, 0).unwrap().violations().len(), 1);
        assert_eq!(capture(THREE, 999, 1).unwrap().violations().len(), 1);
        assert_eq!(capture("{}", 0, 0).unwrap().violations().len(), 1);
        let ongoing = r#"{"gc":{"total_ns":1,"ongoing_ns":2}}"#;
        assert_eq!(capture(ongoing, 1, 0).unwrap().violations().len(), 1);
    }

    #[test]
    fn what_is_missing_or_unknown_is_an_error() {
        assert!(capture(r#"{"weather":{"total_ns":1}}"#, 1, 0).is_err());
        assert!(Reading::parse(r#"{"by_cause":{}}"#).is_err());
    }
}
