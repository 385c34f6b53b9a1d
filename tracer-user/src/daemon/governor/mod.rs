//! The governor: decides what each process of a watched host is traced with, so that it costs no more than its budget
//! allows.
//!
//! [`Governor`] is a pure state machine, one for each target: an [`Input`] goes in, [`Effect`]s come out, and every
//! step from one tier to another carries its [`Reason`]. [`allot()`] divides the host's budget among the targets.
//! Decisions are made after each *window*: the time between two measurements of a target.
//!
//! ```text
//!              fits, allowed                 attached
//!    Idle   ───────────────────▶ Attaching ────────────▶ Probed ──┐ window after window:
//!      ▲                              │ failed              │     │ measured cost, new cap
//!      │ detached                     ▼                     │◀────┘
//!      └──────────────────────── Detaching ◀────────────────┘
//!                                          cap, budget, rule, end of the window of `exact`
//! ```
//!
//! Three things limit the cost, each where the others cannot: a forecast before anything is attached, the kernel's hit
//! cap within a window, and the measured cost after it.

mod allot;
mod budget;
mod input;
mod reason;
mod state;

pub use allot::{Demand, allot};
pub use budget::{Budget, Window};
pub use input::{Effect, Input, Settings};
pub use reason::{Obstacle, Reason, Step};
pub use state::Governor;

#[cfg(test)]
mod random;
#[cfg(test)]
mod scenarios;
