//! Starts that are held until their process has its probes: the gate, and the probes of starting processes.
//!
//! The gate's own threads answer and attach, so that no program of the host waits for the daemon's loop.

use std::{fs::File, os::fd::OwnedFd, sync::Arc};

use crate::{
    bpf::linker::Linker,
    clock::now_ns,
    error::{Error, Result},
    process::file::{FileId, FileState},
    sources::starts::{
        gate::{Asker, Gate, Missed, WatchedFile},
        links::Links,
    },
};

/// The gate, closed for some files.
pub struct Gated {
    gate: Option<Gate>,
    links: Links,
}

impl Gated {
    /// Closes the gate, for no file yet. `held` is the kernel side's table of followed processes.
    ///
    /// # Errors
    /// As [`Gate::close`].
    pub fn new(held: OwnedFd) -> Result<Self> {
        let (gate, _) = Gate::close(held, Asker::Daemon, Arc::default())?;
        Ok(Self {
            gate: Some(gate),
            links: Links::new(),
        })
    }

    /// Holds each start of a file until it has its probes, from here on.
    ///
    /// # Errors
    /// As [`Gate::watch`].
    pub fn watch(
        &self,
        file: &File,
        state: FileState,
        slot: u32,
        linker: Arc<Linker>,
        missed: Arc<Missed>,
    ) -> Result<()> {
        let file = file
            .try_clone()
            .map_err(|e| Error::failed(format!("the program's file cannot be kept open: {e}")))?;
        let gate = self
            .gate
            .as_ref()
            .ok_or_else(|| Error::failed("the gate is open"))?;
        gate.watch(WatchedFile {
            file,
            state,
            slot,
            linker,
            missed,
        })
    }

    /// Stops holding starts of a file. Waits until its processes have lost their probes, since the file may become
    /// another program.
    pub fn unwatch(&mut self, file: FileId, slot: u32) {
        if let Some(gate) = &self.gate {
            gate.unwatch(file);
        }
        self.take_linked(|_| true);
        self.links.unprobe(slot);
    }

    /// Removes the probes of processes whose start ended (process, when), or that are gone. Returns the processes that
    /// have none any more.
    pub fn close(&mut self, ends: &[(u32, u64)], is_known: impl Fn(u32) -> bool) -> Vec<u32> {
        self.take_linked(is_known);
        for (pid, at_ns) in ends {
            self.links.ended(*pid, *at_ns);
        }
        self.links.sweep(now_ns())
    }

    fn take_linked(&mut self, is_known: impl Fn(u32) -> bool) {
        let Some(gate) = &self.gate else { return };
        // The holds are not used, but must not pile up in the channel.
        gate.holds().for_each(drop);
        let (linked, late) = gate.linked();
        for linked in linked {
            match is_known(linked.slot) {
                true => self.links.add(linked),
                false => self.links.refuse(linked),
            }
        }
        self.links.late(&late);
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.open().into_iter().for_each(|linked| self.links.add(linked));
        }
        self.links.clear();
    }
}
