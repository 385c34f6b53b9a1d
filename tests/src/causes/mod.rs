//! Causes of waits to run: for each a workload in which nearly all waiting is due to it, and a twin from which only that is
//! missing; and what a capture in mode `full` says of them.

pub mod matrix;
pub mod pathology;
pub mod reading;
pub mod running;

pub use pathology::{Pathology, Way};
pub use reading::Reading;
pub use running::Running;
