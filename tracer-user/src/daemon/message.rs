//! What other threads send to the loop: the results of work that may take long.

use std::io;

use super::{
    discovery::{
        census::{Scanned, Ticket},
        inspect::Inspected,
    },
    job::Done,
    starts::Candidate,
};
use crate::{error::Result, session::start::program::Program};

/// The result of work that was done on another thread.
pub enum Message {
    /// All processes, with the time at which the scan began.
    Scanned(u64, io::Result<Vec<Scanned>>),
    /// A process was inspected; last the file (device, inode) that it ran.
    Inspected(Ticket, Inspected, Option<(u64, u64)>),
    /// The memory of a target was read.
    Read(Box<Done>),
    /// A binary whose starts are to be timed was analysed.
    Analysed(Candidate, Result<Box<Program>>),
    /// Names of creation sites of this process were looked up.
    NamesResolved(u32, Result<()>),
}
