//! Finds the processes of the host, and decides which of them are watched, and how.
//!
//! `census` keeps track of all processes and says which are to be inspected; `inspect` does that on another thread,
//! with what `programs` knows of their files; `rules` decides. `in_flight` keeps an inspection that never ends from
//! blocking the others.

pub mod census;
mod container;
pub mod in_flight;
pub mod inspect;
pub mod programs;
mod rules;
pub mod scan;

pub use container::Placement;
pub use rules::{Decision, ProcessFacts, decide, fits};
