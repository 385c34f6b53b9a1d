//! The life of one target: the only room that acts backwards on the others.
//!
//! [`Session`] is a pure state machine: what happened goes in, what is to be done comes out. It knows no
//! clock, no kernel and no process, so that it can be tested with scenarios; a runner carries out its
//! effects and tells it what came of them.
//!
//! ```text
//! New ──▶ Attaching ──▶ Live ──▶ Draining ──▶ Done
//!           ▲   │        │
//!           └───┴────────┘ a cheaper mode, where `auto` may choose
//! ```

mod capturing;
mod changes;
mod delivery;
pub mod effect;
pub mod happening;
mod live;
mod machine;
mod neighbours;
pub mod options;
mod prepare;
pub mod replay;
pub mod runner;
mod signals;
pub mod start;
pub mod step;
pub mod tier;

pub use effect::{Effect, EndedBy};
pub use happening::{Happening, Offer};
pub use machine::{Policy, Session};

#[cfg(test)]
mod random;
#[cfg(test)]
mod scenarios;
