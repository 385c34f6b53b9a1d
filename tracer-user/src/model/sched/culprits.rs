//! Who held the Ps while others waited, and how long goroutines run at a time, by the `go` statement that made them.

use super::causes::held_ns;
use super::change::Change;
use super::counts::Counts;
use super::explained::Culprit;
use super::goroutine::ByAddress;
use super::thread::Stretch;
use crate::stream::HistogramKey;

/// Most `go` statements with a histogram of their own; others share one, under 0.
const MOST_SITES: usize = 4_096;

/// What the goroutines of one `go` statement kept from others.
#[derive(Clone, Debug, Default)]
struct Held {
    /// As [`Causes::held`](super::causes::Causes::held).
    held: u128,
    on_cpu: Counts,
    longest_ns: u64,
    longest_at_ns: u64,
    longest_goid: u64,
}

/// Running stretches by `go` statement.
#[derive(Clone, Debug, Default)]
pub struct Culprits {
    sites: ByAddress<Held>,
    /// [`Causes::held`](super::causes::Causes::held) when the window opened.
    opened: u128,
}

impl Culprits {
    /// Adds the running stretch that a change ends, as of when [`Causes::held`](super::causes::Causes::held) was `now`.
    #[inline]
    pub fn add(&mut self, change: &Change, stretch: Stretch, now: u128) {
        let is_new = self.sites.len() >= MOST_SITES && !self.sites.contains_key(&change.gopc);
        let site = self
            .sites
            .entry(if is_new { 0 } else { change.gopc })
            .or_default();
        site.held += now.saturating_sub(stretch.held.max(self.opened));
        if !change.exact {
            return;
        }
        let on_cpu_ns = change.spent_ns.saturating_sub(stretch.off_cpu_ns);
        site.on_cpu.add(on_cpu_ns);
        if on_cpu_ns > site.longest_ns {
            (site.longest_ns, site.longest_at_ns, site.longest_goid) = (on_cpu_ns, change.at_ns, change.goid);
        }
    }

    /// Forgets what was before the window, which opens when [`Causes::held`](super::causes::Causes::held) is `now`.
    pub fn open(&mut self, now: u128) {
        self.sites.clear();
        self.opened = now;
    }

    /// What a stretch that has not ended has held of the window, as of `now`.
    pub fn so_far(&self, stretch: Stretch, now: u128) -> u128 {
        now.saturating_sub(stretch.held.max(self.opened))
    }

    /// Everyone who held a P, with those that still run (`go` statement, [`Causes::held`](super::causes::Causes::held) of
    /// the stretch so far); the one with the most first.
    pub fn report(&self, running: impl Iterator<Item = (u64, u128)>) -> Vec<Culprit> {
        let mut ongoing: ByAddress<u128> = ByAddress::default();
        for (gopc, held) in running {
            *ongoing.entry(gopc).or_default() += held;
        }
        let mut culprits: Vec<Culprit> = self
            .sites
            .iter()
            .map(|(gopc, site)| Culprit {
                gopc: *gopc,
                held_ns: held_ns(site.held + ongoing.remove(gopc).unwrap_or(0)),
                on_cpu: site.on_cpu.delta(HistogramKey::CreationSite(*gopc)),
                longest_ns: site.longest_ns,
                longest_at_ns: site.longest_at_ns,
                longest_goid: site.longest_goid,
            })
            .collect();
        culprits.extend(ongoing.into_iter().map(|(gopc, held)| Culprit {
            gopc,
            held_ns: held_ns(held),
            on_cpu: None,
            longest_ns: 0,
            longest_at_ns: 0,
            longest_goid: 0,
        }));
        culprits.sort_by_key(|culprit| (std::cmp::Reverse(culprit.held_ns), culprit.gopc));
        culprits
    }
}
