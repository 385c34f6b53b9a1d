//! The life of a capture: [`attach`] traces a process that is running already, [`start`] traces how processes start,
//! and [`replay`] feeds a recording to the same consumers. Sessions drive all the other modules; none of those knows of
//! a session.

pub mod attach;
mod consumers;
mod delivery;
mod descriptors;
mod neighbours;
pub mod options;
pub mod replay;
mod signals;
pub mod start;
mod timers;
