//! A process that can be read, and why a reading of it fails.

use std::sync::Arc;

use crate::{
    binary::Globals,
    clock::ClockOffset,
    daemon::discovery::programs::AnalysedProgram,
    plan::program::Reading,
    process::memory::{ProcessMemory, ReadError},
    sources::{causes::CauseSampler, passive::PassiveSource},
};

/// A process that can be read.
#[derive(Debug)]
pub struct Watched {
    /// Its program.
    pub known: Arc<AnalysedProgram>,
    /// Which reading of the program its memory agrees with.
    pub nth: usize,
    /// Link-time addresses that its memory agrees with.
    pub globals: Globals,
    /// Run-time minus link-time addresses.
    pub bias: u64,
    /// How far its clock is ahead of the host's, if that could be found.
    pub clock: Option<ClockOffset>,
    /// `None` while it is being read.
    pub(super) passive: Option<PassiveSource<ProcessMemory>>,
    /// `None` while it is being sampled, and where that is not possible.
    pub(super) causes: Option<CauseSampler<ProcessMemory>>,
}

impl Watched {
    /// What its program was found to be.
    pub fn reading(&self) -> &Reading {
        self.known.program.nth(self.nth)
    }
}

/// Why a process could not be read.
#[derive(Debug)]
pub enum ReadFailure {
    /// It has ended.
    Ended,
    /// It runs another program now.
    Replaced,
    /// Its memory cannot be read; this may pass.
    Unreadable(ReadError),
}
