//! Chooses the creation sites and package inits that have series of their own.
//!
//! A counter must not decrease. So what has a series keeps it while its process (or, for inits, the daemon) lives, and
//! what was counted under `other` stays there. How many there are is what the configuration said when the first was
//! seen. Of those that are seen at once, the largest come first.

use std::collections::{BTreeMap, BTreeSet};

use super::label::{OTHER, clean};
use crate::{
    daemon::view::{HostView, StartsView, TargetView},
    escape::Untrusted,
    latency::Histogram,
};

/// How many package inits of one binary have series of their own.
pub const INIT_PACKAGES: usize = 50;
/// The prefix of package inits.
const INIT: &str = "init:";
/// The name under which the other inits are counted.
const INIT_OTHER: &str = "init:other";

/// Names that have series of their own.
#[derive(Debug, Default)]
struct Names {
    most: usize,
    own: BTreeSet<String>,
}

/// The names that were chosen so far.
#[derive(Debug, Default)]
pub struct Chosen {
    /// By process: PID, start time, and program (which an exec changes).
    sites: BTreeMap<(u32, u64, Untrusted), Names>,
    /// By binary.
    inits: BTreeMap<String, Names>,
}

/// Histograms by label value.
pub type Named = BTreeMap<String, Histogram>;

/// The histograms of one view that are exported under chosen names.
#[derive(Debug, Default)]
pub struct OwnSeries {
    /// Waits by creation site, by PID.
    pub sites: BTreeMap<u32, Named>,
    /// Starts, by binary.
    pub starts: BTreeMap<String, Starts>,
}

/// Starts of one binary.
#[derive(Debug, Default)]
pub struct Starts {
    /// Those that reached `main.main`.
    pub completed: u64,
    /// Those that did not reach it.
    pub failed: u64,
    /// Those that continued without their probes.
    pub missed: u64,
    /// The times of their phases.
    pub phases: Named,
}

impl Chosen {
    /// Chooses the series of a view; forgets processes that have ended.
    pub fn series(&mut self, view: &HostView) -> OwnSeries {
        let most = usize::try_from(view.metrics.creation_sites).unwrap_or(usize::MAX);
        let mut own = OwnSeries::default();
        let mut alive = BTreeSet::new();
        for target in targets(view) {
            if target.sampled_waits.is_empty() {
                continue;
            }
            let name = &target.name;
            let key = (name.pid, name.start_time, name.exe.clone());
            alive.insert(key.clone());
            let names = self.sites.entry(key).or_insert_with(|| Names::new(most));
            let sites = merged(&target.sampled_waits);
            let sites = names.fold(sites, Histogram::count, |_| Some(OTHER));
            own.sites.insert(target.name.pid, sites);
        }
        self.sites.retain(|key, _| alive.contains(key));
        for (exe, starts) in &view.starts {
            self.add_starts(&mut own, exe, starts);
        }
        own
    }

    fn add_starts(&mut self, own: &mut OwnSeries, exe: &str, starts: &StartsView) {
        let exe = clean(exe).into_owned();
        let names = self
            .inits
            .entry(exe.clone())
            .or_insert_with(|| Names::new(INIT_PACKAGES));
        let phases = merged(starts.phases.iter().map(|(name, histogram)| (name, histogram)));
        let time = |histogram: &Histogram| histogram.sum_ns().unwrap_or_default();
        let phases = names.fold(phases, time, |name| name.starts_with(INIT).then_some(INIT_OTHER));
        let sum = own.starts.entry(exe).or_default();
        sum.completed = sum.completed.saturating_add(starts.completed);
        sum.failed = sum.failed.saturating_add(starts.failed);
        sum.missed = sum.missed.saturating_add(starts.missed);
        for (name, histogram) in phases {
            add(&mut sum.phases, name, &histogram);
        }
    }
}

impl Names {
    fn new(most: usize) -> Self {
        Self {
            most,
            own: BTreeSet::new(),
        }
    }

    /// Chooses names while there is room, the largest first, and adds up the others. `other` says under which name one
    /// that is not chosen is counted; `None` if it always has its own series, which takes no room.
    fn fold(
        &mut self,
        all: Named,
        size: impl Fn(&Histogram) -> u64,
        other: impl Fn(&str) -> Option<&'static str>,
    ) -> Named {
        let mut room = self.most.saturating_sub(self.own.len());
        let needs_room = |name: &str| other(name).is_some_and(|other| other != name);
        if room > 0 {
            let mut new: Vec<_> = all
                .iter()
                .filter(|(name, _)| needs_room(name) && !self.own.contains(*name))
                .map(|(name, histogram)| (std::cmp::Reverse(size(histogram)), name))
                .collect();
            new.sort();
            for (_, name) in new {
                if room == 0 {
                    break;
                }
                room -= 1;
                self.own.insert(name.clone());
            }
        }
        let mut folded = Named::new();
        for (name, histogram) in all {
            let under = match other(&name) {
                Some(other) if !self.own.contains(&name) => other.to_owned(),
                _ => name,
            };
            add(&mut folded, under, &histogram);
        }
        folded
    }
}

/// The targets by PID. If a PID occurs twice, the older process has ended, and is left out: Prometheus would refuse the
/// whole page for two series with the same labels.
pub fn targets(view: &HostView) -> impl Iterator<Item = &TargetView> {
    let mut by_pid: BTreeMap<u32, &TargetView> = BTreeMap::new();
    for target in &view.targets {
        let there = by_pid.entry(target.name.pid).or_insert(target);
        if there.name.start_time <= target.name.start_time {
            *there = target;
        }
    }
    by_pid.into_values()
}

/// The histograms by label value; those with equal label values are added up.
fn merged<'a>(all: impl IntoIterator<Item = (&'a String, &'a Histogram)>) -> Named {
    let mut merged = Named::new();
    for (name, histogram) in all {
        add(&mut merged, clean(name).into_owned(), histogram);
    }
    merged
}

fn add(to: &mut Named, name: String, histogram: &Histogram) {
    to.entry(name)
        .or_insert_with(|| Histogram::new(histogram.scheme()))
        .merge(histogram);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::Metrics;
    use crate::daemon::metrics::testing::{histogram, target};
    use crate::stream::BucketScheme;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn waits(count: u64) -> Histogram {
        histogram(BucketScheme::Kernel, &vec![5_000; count as usize])
    }

    fn view(sites: &[(&str, u64)], most: u32) -> HostView {
        let mut target = target(7);
        target.sampled_waits = sites
            .iter()
            .map(|(name, count)| ((*name).to_owned(), waits(*count)))
            .collect();
        HostView {
            targets: vec![Arc::new(target)],
            metrics: Metrics { creation_sites: most },
            ..HostView::default()
        }
    }

    fn counts(own: &OwnSeries) -> Vec<(&str, u64)> {
        let sites = own.sites.get(&7).expect("a process with sites");
        sites.iter().map(|(name, h)| (name.as_str(), h.count())).collect()
    }

    #[test]
    fn what_has_a_series_keeps_it_and_what_has_none_gets_none() {
        let mut chosen = Chosen::default();
        let own = chosen.series(&view(&[("a", 1), ("b", 3), ("c", 2)], 2));
        assert_eq!(counts(&own), [("b", 3), ("c", 2), ("other", 1)]);
        // `a` overtakes all, one is new, and the setting was raised: nothing may fall.
        let own = chosen.series(&view(&[("a", 100), ("b", 3), ("c", 2), ("d", 50)], 10));
        assert_eq!(counts(&own), [("b", 3), ("c", 2), ("other", 150)]);
        // Another process under the same PID begins anew.
        let mut other = view(&[("a", 1)], 2);
        Arc::make_mut(&mut other.targets[0]).name.start_time += 1;
        assert_eq!(counts(&chosen.series(&other)), [("a", 1)]);
        assert_eq!(chosen.sites.len(), 1);
        chosen.series(&HostView::default());
        assert!(chosen.sites.is_empty());
    }

    #[test]
    fn the_kernels_own_other_takes_no_room_and_is_added() {
        let mut chosen = Chosen::default();
        let own = chosen.series(&view(&[("a", 1), ("other", 30), ("z", 9)], 1));
        assert_eq!(counts(&own), [("other", 31), ("z", 9)]);
    }

    #[test]
    fn names_that_come_out_alike_are_added_up() {
        let long = "x".repeat(300);
        let (one, two) = (format!("{long}1"), format!("{long}2"));
        let own = Chosen::default().series(&view(&[(&one, 1), (&two, 2)], 9));
        assert_eq!(own.sites[&7].len(), 1);
        assert_eq!(own.sites[&7].values().next().unwrap().count(), 3);
    }

    #[test]
    fn the_slowest_package_inits_have_a_series_and_phases_always() {
        let mut phases = vec![("exec".to_owned(), waits(1)), ("total".to_owned(), waits(1))];
        for i in 0..200u64 {
            let slow = histogram(BucketScheme::Kernel, &[1_000 * (i + 1)]);
            phases.push((format!("init:p{i}"), slow));
        }
        let mut view = HostView::default();
        let starts = StartsView {
            completed: 1,
            failed: 0,
            missed: 0,
            phases,
        };
        view.starts.insert("/srv/a".into(), starts);
        let own = Chosen::default().series(&view);
        let phases = &own.starts["/srv/a"].phases;
        assert_eq!(phases.len(), INIT_PACKAGES + 3);
        assert!(phases.contains_key("init:p199") && !phases.contains_key("init:p149"));
        assert_eq!(phases["init:other"].count(), 150);
    }

    proptest! {
        /// Whatever grows, and whatever the setting becomes, no series falls.
        #[test]
        fn no_counter_falls(
            steps in prop::collection::vec((prop::collection::vec((0usize..12, 0u64..20), 0..8), 0u32..6), 1..12)
        ) {
            let mut all: BTreeMap<String, u64> = BTreeMap::new();
            let mut before: BTreeMap<String, u64> = BTreeMap::new();
            let mut chosen = Chosen::default();
            for (grown, most) in steps {
                for (site, more) in grown {
                    *all.entry(format!("main.f{site}")).or_default() += more;
                }
                let sites: Vec<(&str, u64)> = all.iter().map(|(name, count)| (name.as_str(), *count)).collect();
                if sites.is_empty() {
                    continue;
                }
                let own = chosen.series(&view(&sites, most));
                let now: BTreeMap<String, u64> = counts(&own).into_iter().map(|(n, c)| (n.to_owned(), c)).collect();
                for (name, count) in &before {
                    prop_assert!(now.get(name).is_some_and(|now| now >= count), "{}", name);
                }
                prop_assert_eq!(now.values().sum::<u64>(), all.values().sum::<u64>());
                before = now;
            }
        }
    }
}
