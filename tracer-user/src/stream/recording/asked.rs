//! Which addresses a symbolizer was asked about: each once, unless it did not know it and has learnt of more code since.

use std::collections::{BTreeSet, HashSet};

/// Addresses that a symbolizer was asked about.
#[derive(Default)]
pub(super) struct Asked {
    asked: HashSet<u64>,
    /// Those of them that it did not know.
    unknown: BTreeSet<u64>,
    /// Its [`revision`](crate::stream::Symbolizer::revision) then.
    revision: u64,
}

impl Asked {
    /// Adds the addresses that `each` yields, and returns those that the symbolizer is to be asked about, ascending.
    pub(super) fn select(&mut self, revision: u64, each: impl FnOnce(&mut dyn FnMut(u64))) -> Vec<u64> {
        let mut new = match std::mem::replace(&mut self.revision, revision) == revision {
            true => BTreeSet::new(),
            false => std::mem::take(&mut self.unknown),
        };
        each(&mut |address| {
            if address != 0 && self.asked.insert(address) {
                new.insert(address);
            }
        });
        new.into_iter().collect()
    }

    /// Notes which of the addresses the symbolizer did not know.
    pub(super) fn note(&mut self, asked: &[u64], is_known: impl Fn(u64) -> bool) {
        self.unknown
            .extend(asked.iter().copied().filter(|address| !is_known(*address)));
    }
}
