//! Starts: of a command that we run (`run`), or of whoever runs a binary next (`attach --next`).
//!
//! [`Session`] is a pure state machine, as [`attach::Session`](super::attach::Session) is for a process that runs already: what happened
//! goes in, what is to be done comes out.

mod attached;
pub mod begin;
mod child;
mod clocks;
mod descriptor_limit;
mod identity;
mod post_start;
pub mod program;
mod programs;
mod runner;
#[cfg(test)]
mod scenarios;
mod state;
mod surroundings;
mod tree;

pub use state::{Effect, Input, Policy, Session, Whose};
