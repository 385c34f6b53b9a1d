//! The capture of starts: of a command that we run (`run`), or the next ones of a binary (`attach --next`).
//!
//! [`Session`] is a pure state machine, as [`attach::Session`](super::attach::Session) is for a process that is running
//! already.

mod attached;
pub mod begin;
mod child;
mod clocks;
mod descriptor_limit;
mod identity;
mod launcher;
mod post_start;
pub mod program;
mod programs;
mod runner;
#[cfg(test)]
mod scenarios;
mod state;
mod surroundings;
mod tree;
mod wakeups;
mod watch;

pub use state::{Effect, Input, Policy, Session, StartsOf};
