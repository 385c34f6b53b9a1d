//! The life of a capture: the only room that acts backwards on the others. [`attach`] has that of a process that runs
//! already, [`start`] that of one whose start is traced, and [`replay`] makes the same of a recording.

pub mod attach;
mod consumers;
mod delivery;
mod neighbours;
pub mod options;
pub mod replay;
mod signals;
pub mod start;
mod timers;
