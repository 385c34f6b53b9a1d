//! What the server counts of itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Why a connection was closed by us, or was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many connections as there may be.
    BeyondLimit,
    /// A request was not over in time.
    Timeout,
    /// What came is not HTTP.
    Malformed,
    /// The head of the request is larger than it may be.
    TooLarge,
    /// The network, or the other side.
    Error,
}

impl Refusal {
    const ALL: [Self; 5] = [
        Self::BeyondLimit,
        Self::Timeout,
        Self::Malformed,
        Self::TooLarge,
        Self::Error,
    ];

    /// The name that the metric uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeyondLimit => "beyond_limit",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Error => "error",
        }
    }
}

/// Counts at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Requests by path (`other` where there is no such page) and status.
    pub answered: BTreeMap<(&'static str, u16), u64>,
    /// Connections by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Open connections.
    pub open: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            answered: BTreeMap::new(),
            refused: Refusal::ALL.iter().map(|refusal| (refusal.name(), 0)).collect(),
            open: 0,
        }
    }
}

/// Counts that grow.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Counts>);

impl Counters {
    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.with(|counts| counts.clone())
    }

    /// A request was answered.
    pub fn answered(&self, path: &'static str, status: u16) {
        self.with(|counts| *counts.answered.entry((path, status)).or_default() += 1);
    }

    /// A connection was refused.
    pub fn refused(&self, why: Refusal) {
        self.with(|counts| *counts.refused.entry(why.name()).or_default() += 1);
    }

    /// This many connections are open now.
    pub fn open(&self, connections: usize) {
        self.with(|counts| counts.open = connections as u64);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
