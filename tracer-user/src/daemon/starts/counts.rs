//! What was counted of the starts of each binary.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    daemon::view::StartsView,
    escape::Untrusted,
    latency::start::PhaseTimes,
    model::start::{Ended, Start},
};

/// How many binaries are kept at most: a pattern may match ever new ones.
const MAX_COUNTED: usize = 256;

/// The counts, by how the binary is shown. They stay when a binary's file is replaced.
#[derive(Default)]
pub struct Counts(BTreeMap<Arc<Untrusted>, Counted>);

/// The counts of one binary.
#[derive(Default)]
pub struct Counted {
    /// When one of its starts was last seen to begin or end.
    pub used_ns: u64,
    /// Starts that were not timed.
    pub missed: u64,
    completed: u64,
    failed: u64,
    times: PhaseTimes,
}

impl Counts {
    /// The counts of a binary, to be changed.
    pub fn of(&mut self, exe: &Arc<Untrusted>) -> &mut Counted {
        self.0.entry(Arc::clone(exe)).or_default()
    }

    /// Removes the binaries for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(&Untrusted) -> bool) {
        self.0.retain(|exe, _| keep(exe));
    }

    /// Removes binaries beyond [`MAX_COUNTED`], the longest unused first, but none that is in `timed`.
    pub fn forget_oldest(&mut self, timed: &BTreeSet<&Untrusted>) {
        let past = self.0.iter().filter(|(exe, _)| !timed.contains(exe.as_ref()));
        let mut past: Vec<(u64, Arc<Untrusted>)> = past
            .map(|(exe, counted)| (counted.used_ns, Arc::clone(exe)))
            .collect();
        past.sort();
        let excess = self.0.len().saturating_sub(MAX_COUNTED);
        for (_, exe) in past.into_iter().take(excess) {
            self.0.remove(&exe);
        }
    }

    /// What is shown of each binary.
    pub fn views(&self) -> BTreeMap<String, StartsView> {
        let views = self.0.iter().map(|(exe, counted)| {
            let phases = counted.times.phases();
            let view = StartsView {
                completed: counted.completed,
                failed: counted.failed,
                missed: counted.missed,
                phases: phases
                    .map(|(name, histogram)| (name.to_owned(), histogram.clone()))
                    .collect(),
            };
            (exe.raw().to_owned(), view)
        });
        views.collect()
    }
}

impl Counted {
    /// Counts a start that is over.
    pub fn add(&mut self, start: &Start) {
        match start.ended {
            Ended::Main | Ended::Library => self.completed += 1,
            Ended::Exit | Ended::Unfinished => self.failed += 1,
        }
        self.times.add(start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_bounded_and_what_is_timed_stays() {
        let mut counts = Counts::default();
        for n in 0..MAX_COUNTED as u64 + 10 {
            let exe = Arc::new(Untrusted::from(format!("/tmp/build-{n}")));
            counts.of(&exe).used_ns = n;
        }
        let timed = Untrusted::from("/tmp/build-0");
        counts.forget_oldest(&BTreeSet::from([&timed]));
        assert_eq!(counts.0.len(), MAX_COUNTED);
        assert!(counts.0.contains_key(&Untrusted::from("/tmp/build-0")));
        assert!(!counts.0.contains_key(&Untrusted::from("/tmp/build-10")));
        assert!(counts.0.contains_key(&Untrusted::from("/tmp/build-11")));
    }
}
