//! Decides which connections may stay when there are too many, and keeps descriptors in reserve.
//!
//! A client that holds connections open must not keep others out. A new connection takes the place of the one that has
//! waited the longest, for the rest of a request or for the next one. Connections whose request was received as a whole
//! are answered first. When all are being answered, a few more are accepted, on which only the health pages are served.

use std::{os::fd::OwnedFd, sync::Arc};

use rustix::event::{EventfdFlags, eventfd};
use tokio::{
    task::{AbortHandle, Id},
    time::Instant,
};

use super::clock::Clock;

/// How many connections beyond the limit are accepted, for the health pages only. As many descriptors are kept in
/// reserve.
pub const RESERVE: usize = 4;

/// What is served on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Every page.
    Full,
    /// Only whether the daemon is healthy and ready; then the connection is closed.
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
    /// Creates an empty set, of which `most` are served in full at once.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            entries: Vec::new(),
        }
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Decides what is served on a new connection (`None` if there is no room), and whether another was closed for it.
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

    /// Closes the connection that has waited the longest, of those with this service or of all. False if none waits.
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

    /// Adds a connection.
    pub fn add(&mut self, abort: AbortHandle, clock: Arc<Clock>, service: Service) {
        self.entries.push(Entry {
            abort,
            clock,
            service,
        });
    }

    /// Removes a connection that has ended.
    pub fn remove(&mut self, id: Id) {
        self.entries.retain(|entry| entry.abort.id() != id);
    }
}

/// Descriptors in reserve, so that connections can be accepted when the process, or the system, has no other left.
#[derive(Debug, Default)]
pub struct Spare(Vec<OwnedFd>);

impl Spare {
    /// Refills the reserve, as far as possible.
    pub fn fill(&mut self) {
        while self.0.len() < RESERVE
            && let Ok(fd) = eventfd(0, EventfdFlags::CLOEXEC)
        {
            self.0.push(fd);
        }
    }

    /// Closes a descriptor of the reserve. False if none is left.
    pub fn spend(&mut self) -> bool {
        self.0.pop().is_some()
    }
}
