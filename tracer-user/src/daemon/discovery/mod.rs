//! Which processes there are, which of them are Go, and what is to be done with them.

pub mod census;
mod container;
pub mod look;
pub mod looks;
pub mod programs;
mod rules;
pub mod scan;

pub use container::Placed;
pub use rules::{Decision, Looked, decide, fits};
