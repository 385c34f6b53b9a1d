//! The time limits of one connection.

use std::sync::{Mutex, PoisonError};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::limits::Limits;

/// Knows when a connection must have finished what it is doing.
#[derive(Debug)]
pub struct Clock {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    deadline: Instant,
    /// Since when the client has to send something: the rest of a request, or the next one. `None` while a request is
    /// answered.
    waits_since: Option<Instant>,
    /// Whether a request is being read or answered.
    busy: bool,
    /// Whether the answer is ready, and only has to be sent.
    answered: bool,
    /// Room for a large page, until it is sent.
    held: Option<OwnedSemaphorePermit>,
}

impl Clock {
    /// Starts the clock of a connection that was just accepted.
    pub fn new(limits: Limits) -> Self {
        let now = Instant::now();
        let state = State {
            deadline: now + limits.timeout,
            waits_since: Some(now),
            busy: true,
            answered: false,
            held: None,
        };
        Self {
            limits,
            state: Mutex::new(state),
        }
    }

    /// Since when the client has to send something; `None` while a request is answered.
    pub fn waits_since(&self) -> Option<Instant> {
        self.with(|state| state.waits_since)
    }

    /// When the connection must have finished what it is doing.
    pub(super) fn deadline(&self) -> Instant {
        self.with(|state| state.deadline)
    }

    /// Whether a request is being read or answered.
    pub(super) fn is_busy(&self) -> bool {
        self.with(|state| state.busy)
    }

    /// Bytes of a request were received, or found in the buffer: its time begins.
    pub(super) fn bytes_received(&self) {
        self.with(|state| {
            if !state.busy {
                state.busy = true;
                state.deadline = Instant::now() + self.limits.timeout;
            }
        });
    }

    /// A whole request was received.
    pub(super) fn request_received(&self) {
        self.bytes_received();
        self.with(|state| (state.answered, state.waits_since) = (false, None));
    }

    /// The answer is ready. `held` is kept until it was sent.
    pub(super) fn response_ready(&self, held: Option<OwnedSemaphorePermit>) {
        self.with(|state| {
            state.answered = true;
            state.held = held;
        });
    }

    /// Everything in the buffer was sent. If that was an answer, the time without a request begins.
    pub(super) fn response_sent(&self) {
        self.with(|state| {
            if state.answered {
                let now = Instant::now();
                (state.deadline, state.waits_since) = (now + self.limits.idle, Some(now));
                (state.busy, state.answered, state.held) = (false, false, None);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
