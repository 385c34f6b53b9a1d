//! The daemon's pages over HTTP/1.1: `/metrics`, `/healthz`, `/readyz`, `/health/config`, `/targets`.
//!
//! hyper reads and writes HTTP; what is added here are limits. A connection has one clock: from accept, or the first
//! byte after a pause, to the last byte of the answer at most [`Limits::timeout`], whatever trickles meanwhile; between
//! requests at most [`Limits::idle`].
//!
//! The daemon has one thread for its loop, which must not wait for a scrape: it feeds the watchdog and lowers tiers. So
//! pages that grow with the number of targets are made on tokio's blocking threads, from a view that does not change
//! any more. Of these at most [`HELD`] are in memory at once, until the other side has taken them.

mod connection;
pub mod counters;
mod page;
mod targets;

use std::{future::Future, io, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};

use self::counters::{Counters, Refusal};
use crate::daemon::{
    config::{Health, Http},
    metrics::Exposition,
    view::HostView,
};

/// Large pages that are made or sent at once; who comes later waits, as long as its time lasts.
pub const HELD: usize = 4;
/// How long answers may go on after the end was asked for.
const GRACE: Duration = Duration::from_millis(500);
/// How long nothing is accepted after accepting failed: mostly there are no file descriptors left.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more are closed at once.
    pub connections: usize,
    /// From accept, or the first byte of a later request, to the end of the answer.
    pub timeout: Duration,
    /// How long a connection may be kept without a request.
    pub idle: Duration,
}

/// What the pages are made from.
#[derive(Clone, Debug)]
pub struct Pages {
    /// What the daemon knows.
    pub view: watch::Receiver<Arc<HostView>>,
    /// Whether the processes that ran when it started were found.
    pub ready: watch::Receiver<bool>,
    /// The configuration.
    pub config: watch::Receiver<Arc<Health>>,
    /// `/healthz` fails when the loop has made no view for so long.
    pub stale_after: Duration,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    limits: Limits,
    pages: Pages,
    exposition: Exposition,
    counters: Counters,
    held: Arc<Semaphore>,
}

impl Limits {
    /// As the configuration says. Prometheus asks once a minute or more often, and keeps its connection meanwhile.
    pub fn new(http: &Http) -> Self {
        Self {
            connections: usize::try_from(http.max_connections).unwrap_or(usize::MAX),
            timeout: http.timeout,
            idle: Duration::from_secs(90),
        }
    }
}

/// Serves until `stop`; then answers that are being sent have a moment to end.
pub async fn serve(listener: TcpListener, limits: Limits, pages: Pages, stop: impl Future<Output = ()>) {
    let shared = Arc::new(Shared {
        limits,
        pages,
        exposition: Exposition::new(),
        counters: Counters::default(),
        held: Arc::new(Semaphore::new(HELD)),
    });
    let (end, ended) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(over) = connections.join_next() => {
                if let Err(e) = over {
                    log::error!("a connection ended by a mistake of ours: {e}");
                }
                shared.counters.open(connections.len());
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < limits.connections => {
                    connections.spawn(connection::run(stream, Arc::clone(&shared), ended.clone()));
                    shared.counters.open(connections.len());
                }
                Ok(_) => shared.counters.refused(Refusal::BeyondLimit),
                Err(e) => {
                    shared.counters.refused(Refusal::Error);
                    log::debug!("accepting a connection: {e}");
                    if !is_of_one(&e) {
                        tokio::time::sleep(AFTER_ERROR).await;
                    }
                }
            }
        }
    }
    drop(listener);
    end.send_replace(true);
    // What is not over by then is dropped with the set.
    let _ = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

/// Whether accepting failed because of that one connection.
fn is_of_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
