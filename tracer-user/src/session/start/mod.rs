//! Starts: of a command that we run (`run`), or of whoever runs a binary next (`attach --next`).
//!
//! [`Session`] is a pure state machine, as [`super::Session`] is for a process that runs already: what happened
//! goes in, what is to be done comes out.

mod behind;
mod child;
mod clocks;
mod identity;
mod machine;
mod program;
pub mod runner;
#[cfg(test)]
mod scenarios;
mod starting;
mod surroundings;

pub use machine::{Effect, Happening, Policy, Session, Whose};
pub use starting::{Form, Starting};
