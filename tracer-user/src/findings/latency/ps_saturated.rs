//! Goroutines wait because all Ps run others, and who these are.

use std::collections::BTreeMap;

use super::{
    Evidence,
    share::{Least, Share},
};
use crate::{
    findings::{
        Outcome, Verdict,
        advice::more_cpu,
        figures::{self, percent},
    },
    model::sched::Cause,
};

/// Most of the waiting, and a queue that is empty at most every other moment: a single burst has a share, too.
const SATURATED: Least = Least {
    share: 0.5,
    at_a_time: 0.5,
};
/// Creation sites that are named.
const NAMED: usize = 3;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let what = "whether goroutines wait because all Ps are busy, and with whom";
    let share = match Share::reaching(evidence, Cause::PBusy, SATURATED, what) {
        Ok(share) => share,
        Err(outcome) => return outcome,
    };
    let culprits = culprits(evidence);
    let most = culprits.first();
    let title = match most {
        Some((site, _)) => {
            format!("all Ps were busy while goroutines waited, mostly with goroutines made in {site}")
        }
        None => "all Ps were busy while goroutines waited".to_owned(),
    };
    let held = match culprits.as_slice() {
        [] if share.is_exact() => String::new(),
        [] => "; --mode full shows who held the Ps".to_owned(),
        culprits => {
            let named: Vec<String> = culprits
                .iter()
                .take(NAMED)
                .map(|(site, share)| format!("{site} ({})", percent(*share)))
                .collect();
            format!(
                "; meanwhile the Ps were held by goroutines made in {}",
                named.join(", ")
            )
        }
    };
    let less = most.map_or_else(
        || "let fewer goroutines compute at a time".to_owned(),
        |(site, _)| {
            format!(
                "let fewer goroutines compute at a time, or those of {site} do less each time that they run"
            )
        },
    );
    Verdict::warning(
        title,
        format!("{}{held}", share.describe()),
        format!(
            "There is more to do than Ps to do it with: {less}; or {}.",
            more_cpu(evidence.gomaxprocs, evidence.cgroup_cpu_limit)
        ),
    )
    .at(evidence.clearest_moment(Cause::PBusy))
    .into()
}

/// Who held the Ps while others waited, with the share of each, the largest first.
fn culprits(evidence: &Evidence) -> Vec<(String, f64)> {
    let culprits = evidence
        .causes
        .map_or(&[][..], |causes| causes.culprits.as_slice());
    // A function may have several `go` statements.
    let mut by_site: BTreeMap<String, u64> = BTreeMap::new();
    for culprit in culprits.iter().filter(|culprit| culprit.held_ns > 0) {
        let held = by_site.entry(evidence.site(culprit.gopc)).or_default();
        *held = held.saturating_add(culprit.held_ns);
    }
    let all_ns = by_site.values().fold(0u64, |sum, held| sum.saturating_add(*held));
    let mut sites: Vec<(String, u64)> = by_site.into_iter().collect();
    sites.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let shares = sites
        .into_iter()
        .map(|(site, held_ns)| (site, figures::share(held_ns, all_ns)));
    shares.collect()
}
