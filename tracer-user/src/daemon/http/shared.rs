//! What all connections share, and what the pages are made from.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, watch};

use super::{counters::Counters, hosts::Hosts, limits::Limits};
use crate::daemon::{config::Health, metrics::Exposition, view::HostView};

/// What the pages are made from.
#[derive(Clone, Debug)]
pub struct Pages {
    /// What the daemon knows.
    pub view: watch::Receiver<Arc<HostView>>,
    /// Whether the processes that ran when it started were found.
    pub ready: watch::Receiver<bool>,
    /// The state of the configuration.
    pub config: watch::Receiver<Arc<Health>>,
    /// The names that the server answers to.
    pub hosts: Hosts,
    /// `/healthz` fails when the loop has made no view for this time.
    pub stale_after: Duration,
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) pages: Pages,
    pub(super) exposition: Exposition,
    pub(super) counters: Counters,
    pub(super) held: Arc<Semaphore>,
}
