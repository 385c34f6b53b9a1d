//! The governor: what a process of a watched host is traced with, so that it costs no more than was agreed to.
//!
//! [`Governor`] is a pure state machine, one for each target: what happened goes in, what is to be done comes out,
//! and every step from a tier to another carries its [`Reason`]. [`allot`] shares the host's budget out among them.
//! What they decide on is a *window*: the time between two looks at a target.
//!
//! ```text
//!              fits, allowed                 attached
//!   Resting ───────────────────▶ Attaching ────────────▶ Probed ──┐ window after window:
//!      ▲                              │ failed              │     │ measured cost, new cap
//!      │ detached                     ▼                     │◀────┘
//!      └──────────────────────── Detaching ◀────────────────┘
//!                                          cap, budget, rule, end of the window of `exact`
//! ```
//!
//! Three things hold the cost down, each where the others cannot: a forecast before anything is attached, the kernel's
//! hit cap within a window, and what was measured after it.

mod allot;
mod budget;
mod happening;
mod reason;
mod state;

pub use allot::{Ask, allot};
pub use budget::{Budget, Window};
pub use happening::{Effect, Happening, Settings};
pub use reason::{Obstacle, Reason, Step};
pub use state::Governor;

#[cfg(test)]
mod random;
#[cfg(test)]
mod scenarios;
