//! The daemon's pages over HTTP/1.1: `/metrics`, `/healthz`, `/readyz`, `/health/config`, `/targets`.
//!
//! hyper reads and writes HTTP; limits are added here. From accept, or the first byte of a later request, to the last
//! byte of the answer a connection has [`Limits::timeout`], however slowly bytes arrive meanwhile; between requests it
//! has [`Limits::idle`].
//!
//! The daemon has one thread for its loop, which must not wait for a scrape: it feeds the watchdog and lowers tiers. So
//! pages that grow with the number of targets are made on tokio's blocking threads, from an immutable view. At most
//! [`HELD`] of them are in memory at once, until the client has received them.

mod admission;
mod clock;
mod connection;
pub mod counters;
mod hosts;
mod limits;
mod page;
mod shared;
mod targets;

use std::{future::Future, io, sync::Arc, time::Duration};

use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinError, JoinSet},
    time::Instant,
};

use self::{
    admission::{Open, Service, Spare},
    clock::Clock,
    counters::{Counters, Refusal},
    shared::Shared,
};
pub use self::{hosts::Hosts, limits::Limits, shared::Pages};
use crate::daemon::metrics::Exposition;

/// How many large pages are made or sent at once; other requests wait, until their time is over.
pub const HELD: usize = 4;
/// How long answers may still be sent after the server was stopped.
const GRACE: Duration = Duration::from_millis(500);
/// How long nothing is accepted after accepting failed for lack of something that cannot be freed here.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Serves until `stop`; then answers that are being sent have a short time to end.
pub async fn serve(listener: TcpListener, limits: Limits, pages: Pages, stop: impl Future<Output = ()>) {
    let shared = Arc::new(Shared {
        limits,
        pages,
        exposition: Exposition::new(),
        counters: Counters::default(),
        held: Arc::new(Semaphore::new(HELD)),
    });
    let (end, ended) = watch::channel(false);
    let mut server = Server {
        shared,
        open: Open::new(limits.connections),
        tasks: JoinSet::new(),
        spare: Spare::default(),
        ended,
        paused_until: None,
    };
    server.spare.fill();
    let mut stop = std::pin::pin!(stop);
    loop {
        let paused_until = server.paused_until;
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(over) = server.tasks.join_next_with_id() => server.ended(over.map(|(id, ())| id)),
            () = tokio::time::sleep_until(paused_until.unwrap_or_else(Instant::now)), if paused_until.is_some() => {
                server.paused_until = None;
            }
            accepted = listener.accept(), if paused_until.is_none() => match accepted {
                Ok((stream, _)) => {
                    server.accepted(stream);
                    // Lets other connections read first: one that would be displaced may have received its request
                    // already.
                    tokio::task::yield_now().await;
                }
                Err(e) => server.failed(&e).await,
            }
        }
    }
    drop(listener);
    end.send_replace(true);
    // Connections that are still open then are dropped with the set.
    let mut tasks = server.tasks;
    let _ = tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await;
}

/// The open connections, and what is needed to accept more.
struct Server {
    shared: Arc<Shared>,
    open: Open,
    tasks: JoinSet<()>,
    spare: Spare,
    /// Becomes true when all connections are to end.
    ended: watch::Receiver<bool>,
    /// Until when nothing is accepted.
    paused_until: Option<Instant>,
}

impl Server {
    /// Serves a connection, unless there are too many.
    fn accepted(&mut self, stream: TcpStream) {
        let (service, has_displaced) = self.open.admit();
        if has_displaced || service.is_none() {
            self.shared.counters.refused(Refusal::BeyondLimit);
        }
        let Some(service) = service else {
            return;
        };
        let limits = match service {
            Service::Full => self.shared.limits,
            Service::HealthOnly => self.shared.limits.for_health(),
        };
        let clock = Arc::new(Clock::new(limits));
        let (shared, ended) = (Arc::clone(&self.shared), self.ended.clone());
        let abort = self.tasks.spawn(connection::run(
            stream,
            shared,
            Arc::clone(&clock),
            service,
            ended,
        ));
        self.open.add(abort, clock, service);
        self.shared.counters.open(self.open.len());
    }

    /// Removes a connection that has ended.
    fn ended(&mut self, over: Result<tokio::task::Id, JoinError>) {
        match over {
            Ok(id) => self.open.remove(id),
            Err(e) => {
                self.open.remove(e.id());
                if !e.is_cancelled() {
                    log::error!("a connection ended by a mistake of ours: {e}");
                }
            }
        }
        self.spare.fill();
        self.shared.counters.open(self.open.len());
    }

    /// Makes room if accepting failed for lack of descriptors; else pauses accepting.
    async fn failed(&mut self, error: &io::Error) {
        if is_of_one(error) {
            self.shared.counters.refused(Refusal::Error);
            return;
        }
        log::debug!("accepting a connection: {error}");
        if lacks_descriptors(error) {
            if self.spare.spend() {
                return;
            }
            if self.open.displace(None) {
                self.shared.counters.refused(Refusal::BeyondLimit);
                // The task is dropped, and its descriptor closed, when the runtime runs next.
                tokio::task::yield_now().await;
                return;
            }
        }
        self.shared.counters.refused(Refusal::Error);
        self.paused_until = Some(Instant::now() + AFTER_ERROR);
    }
}

/// Whether accepting failed because of this one connection.
fn is_of_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Whether closing a descriptor helps: the process, or the system, has as many as it may have.
fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)
    )
}

#[cfg(test)]
mod tests;
