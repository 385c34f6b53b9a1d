//! The counters of the server.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Why a connection was refused, or ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are too many connections.
    BeyondLimit,
    /// A request took too long.
    Timeout,
    /// What was received is not HTTP.
    Malformed,
    /// The head of the request is larger than it may be.
    TooLarge,
    /// An error of the network, or of the client.
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

/// The counts at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Requests by path (`other` if there is no such page) and status.
    pub answered: BTreeMap<(&'static str, u16), u64>,
    /// Refused connections by reason.
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

/// The counters.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Counts>);

impl Counters {
    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.with(|counts| counts.clone())
    }

    /// Counts an answered request.
    pub fn answered(&self, path: &'static str, status: u16) {
        self.with(|counts| *counts.answered.entry((path, status)).or_default() += 1);
    }

    /// Counts a refused connection.
    pub fn refused(&self, why: Refusal) {
        self.with(|counts| *counts.refused.entry(why.name()).or_default() += 1);
    }

    /// Sets the number of open connections.
    pub fn open(&self, connections: usize) {
        self.with(|counts| counts.open = connections as u64);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
