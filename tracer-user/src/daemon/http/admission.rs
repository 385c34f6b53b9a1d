//! Which connections may stay when there are as many as there may be, and descriptors kept for them.
//!
//! Who holds connections open must not keep others out. A new connection takes the place of the one that has waited the
//! longest: for the rest of a request, or, kept open, for the next one. Those whose request came as a whole are answered
//! first. When all are being answered, a few more are accepted, and asked no more of than whether the daemon is healthy.

use std::{os::fd::OwnedFd, sync::Arc};

use rustix::event::{EventfdFlags, eventfd};
use tokio::{
    task::{AbortHandle, Id},
    time::Instant,
};

use super::connection::Clock;

/// Connections beyond the limit that are only told whether the daemon is healthy and ready. As many descriptors are
/// kept for connections.
pub const RESERVE: usize = 4;

/// What a connection is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Every page.
    Full,
    /// Whether the daemon is healthy and ready; then the connection is closed.
    HealthOnly,
}

/// A connection that is open.
#[derive(Debug)]
struct Entry {
    abort: AbortHandle,
    clock: Arc<Clock>,
    service: Service,
}

/// The connections that are open.
#[derive(Debug)]
pub struct Open {
    most: usize,
    entries: Vec<Entry>,
}

impl Open {
    /// None yet, and so many at once that are answered in full.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            entries: Vec::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What one more connection is answered, and whether another one was closed for it; none if there is no room.
    pub fn admit(&mut self) -> (Option<Service>, bool) {
        for (service, most) in [(Service::Full, self.most), (Service::HealthOnly, RESERVE)] {
            let there = self.entries.iter().filter(|entry| entry.service == service);
            if there.count() < most {
                return (Some(service), false);
            }
            if self.displace(Some(service)) {
                return (Some(service), true);
            }
        }
        (None, false)
    }

    /// Closes the connection that has waited the longest, of those with this service or of all; false if none waits.
    pub fn displace(&mut self, service: Option<Service>) -> bool {
        let waiting = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| service.is_none_or(|service| entry.service == service))
            .filter_map(|(at, entry)| Some((entry.clock.waits_since()?, at)));
        let longest: Option<(Instant, usize)> = waiting.min();
        if let Some((_, at)) = longest {
            self.entries.remove(at).abort.abort();
        }
        longest.is_some()
    }

    /// One more.
    pub fn add(&mut self, abort: AbortHandle, clock: Arc<Clock>, service: Service) {
        self.entries.push(Entry {
            abort,
            clock,
            service,
        });
    }

    /// One has ended.
    pub fn remove(&mut self, id: Id) {
        self.entries.retain(|entry| entry.abort.id() != id);
    }
}

/// Descriptors that are kept so that connections can be accepted when the process, or the system, has no other left.
#[derive(Debug, Default)]
pub struct Spare(Vec<OwnedFd>);

impl Spare {
    /// Takes as many as are missing and can be had.
    pub fn fill(&mut self) {
        while self.0.len() < RESERVE
            && let Ok(fd) = eventfd(0, EventfdFlags::CLOEXEC)
        {
            self.0.push(fd);
        }
    }

    /// Lets go of one; false if there is none.
    pub fn spend(&mut self) -> bool {
        self.0.pop().is_some()
    }
}
