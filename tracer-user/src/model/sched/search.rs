//! Searches: stretches in which an M with a P looks for a goroutine to run, and how many of them are in vain.
//!
//! A search begins when an M takes a P, or when a goroutine leaves the M and the P stays. It has found one when a goroutine
//! begins to run on the M, and is in vain when the thread of the M falls asleep without a P. Where the M hands its P to
//! another thread, as for a goroutine that is locked to that one, it has not looked for anything: that counts as neither.
//! Whatever a thread does before it has a P, such as waking up, is not part of a search, so that their time is a lower
//! bound.

/// A search that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    begin_ns: u64,
    /// Nanoseconds of it in which the thread had no CPU.
    off_cpu_ns: u64,
}

/// Searches that are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searches {
    /// Those that found a goroutine.
    pub found: u64,
    /// Those that found none.
    pub in_vain: u64,
    /// Nanoseconds on a CPU of those that found none.
    pub in_vain_ns: u64,
}

impl Search {
    /// Makes a search that begins now.
    pub fn begin(at_ns: u64) -> Self {
        Self {
            begin_ns: at_ns,
            off_cpu_ns: 0,
        }
    }

    /// Adds time in which the thread had no CPU.
    pub fn add_off_cpu(&mut self, ns: u64) {
        self.off_cpu_ns = self.off_cpu_ns.saturating_add(ns);
    }
}

impl Searches {
    /// Adds a search that ends without a goroutine.
    pub fn add_in_vain(&mut self, search: Search, at_ns: u64) {
        let took_ns = at_ns.saturating_sub(search.begin_ns);
        self.in_vain += 1;
        self.in_vain_ns = self
            .in_vain_ns
            .saturating_add(took_ns.saturating_sub(search.off_cpu_ns));
    }
}
