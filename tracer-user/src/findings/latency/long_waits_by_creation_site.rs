//! Goroutines that waited long, where samples give their `go` statement but not how they became runnable.

use std::collections::BTreeMap;

use super::{Evidence, LONG_NS, severity_of};
use crate::{
    escape::Untrusted,
    findings::{
        Outcome, Verdict,
        figures::{percent, share},
    },
    stream::HistogramKey,
};

/// Creation sites that are named.
const SITES: usize = 3;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let mut by_function: BTreeMap<Untrusted, (u64, u64)> = BTreeMap::new();
    for (key, histogram) in evidence.latency.by_key() {
        let HistogramKey::CreationSite(gopc) = key else {
            continue;
        };
        let name = match gopc {
            0 => "other".into(),
            _ => evidence
                .symbolizer
                .function_at(*gopc)
                .unwrap_or_else(|| format!("{gopc:#x}").into()),
        };
        let entry = by_function.entry(name).or_default();
        entry.0 = entry.0.saturating_add(histogram.count_above(LONG_NS));
        entry.1 = entry.1.saturating_add(histogram.count());
    }
    let (long, all) = by_function
        .values()
        .fold((0u64, 0u64), |(long, all), site| (long + site.0, all + site.1));
    if long == 0 {
        return Outcome::Ok;
    }
    let mut sites: Vec<_> = by_function
        .into_iter()
        .filter(|(_, (long, _))| *long > 0)
        .collect();
    sites.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
    let worst: Vec<String> = sites
        .iter()
        .take(SITES)
        .map(|(name, (long, all))| {
            format!("{} {long} of {all} ({})", name.raw(), percent(share(*long, *all)))
        })
        .collect();
    let share = share(long, all);
    Outcome::Finding(Verdict {
        severity: severity_of(share),
        title: format!("{long} sampled waits took more than 100 us"),
        evidence: format!(
            "{long} of {all} sampled waits ({}); most by goroutines made in {}",
            percent(share),
            worst.join(", ")
        ),
        advice:
            "A sample does not say whether it was a first run or a later one: --mode exact does, by origin."
                .to_owned(),
        at_ns: None,
    })
}
