//! The limits that clients are held to.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::daemon::config::Http;

/// The time limit of a connection beyond [`Limits::connections`]: only the health pages are served on it.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections get at most one in so many of the descriptors that the process may have: the others are for what it
/// watches.
const SHARE_OF_DESCRIPTORS: u64 = 4;
/// How many connections there may be at least, however few descriptors there are.
const FEWEST: usize = 4;

/// The limits that clients are held to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections there may be at once. One more takes the place of one that waits; see
    /// [`admission`](super::admission).
    pub connections: usize,
    /// The time from accept, or from the first byte of a later request, to the end of the answer.
    pub timeout: Duration,
    /// How long a connection may be kept without a request.
    pub idle: Duration,
}

impl Limits {
    /// The limits of the configuration, as far as the limit of open files allows. Prometheus scrapes once a minute or
    /// more often, and keeps its connection in between.
    pub fn new(http: &Http) -> Self {
        let limits = Self {
            connections: usize::try_from(http.max_connections).unwrap_or(usize::MAX),
            timeout: http.timeout,
            idle: Duration::from_secs(90),
        };
        let files = getrlimit(Resource::Nofile).current;
        let within = limits.within(files.unwrap_or(u64::MAX));
        if within.connections < limits.connections {
            log::warn!(
                "http.max_connections is {}, and {} are allowed: the process may have no more than {} open files (raise \
                 LimitNOFILE= of the service, or `ulimit -n`)",
                limits.connections,
                within.connections,
                files.unwrap_or(u64::MAX),
            );
        }
        within
    }

    /// These limits, reduced for a process that may have so many open files.
    pub(super) fn within(self, files: u64) -> Self {
        let most = usize::try_from(files / SHARE_OF_DESCRIPTORS).unwrap_or(usize::MAX);
        Self {
            connections: self.connections.min(most.max(FEWEST)),
            ..self
        }
    }

    /// The limits of a connection on which only the health pages are served.
    pub(super) fn for_health(self) -> Self {
        Self {
            timeout: self.timeout.min(HEALTH_TIMEOUT),
            ..self
        }
    }
}
