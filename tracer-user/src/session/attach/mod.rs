//! The capture of a process that is running already.
//!
//! [`Session`] is a pure state machine: it takes an [`Input`] and returns the [`Effect`]s to carry out. It knows no
//! clock, no kernel and no process, so that it can be tested with scenarios; a runner carries out its effects and
//! reports their outcome as further inputs.
//!
//! ```text
//! New ──▶ Attaching ──▶ Live ──▶ Draining ──▶ Done
//!           ▲   │        │
//!           └───┴────────┘ a cheaper mode, where `auto` may choose
//! ```

mod attachment;
mod clocks;
mod cpu;
pub mod effect;
mod full;
mod halts;
pub mod input;
mod limits;
pub(in crate::session) mod live;
mod plugins;
pub(in crate::session) mod prepare;
mod programs;
pub mod runner;
mod sampling;
mod select;
mod state;
mod watch;

pub use effect::Effect;
pub use input::{Input, Offer};
pub use state::{Policy, Session};

#[cfg(test)]
mod random;
#[cfg(test)]
mod scenarios;
