//! Probes in the plugins of the only target of a capture. Their hits count for the target like those in its program, and
//! only their sites take entries of their own in the kernel's table.

use std::fs::File;

use super::probes::target::points;
use crate::{
    bpf::{
        Kernel, ProgramKind, Scope,
        attach::{self, Probes},
    },
    error::{Error, Result},
    plan::Site,
};

/// Most plugins that are probed in one process.
pub const MOST_PLUGINS: u32 = 32;
/// Index of the entries of the first plugin: after those of the only target and of calibration.
const FIRST: u32 = 2;

/// The sites of a plugin.
#[derive(Clone, Copy, Debug)]
pub struct PluginRequest<'a> {
    /// Its file.
    pub file: &'a File,
    /// The sites to attach to.
    pub sites: &'a [Site],
    /// Run-time minus link-time address.
    pub bias: u64,
}

/// The live probes in all plugins of a target.
pub struct PluginProbes {
    program: ProgramKind,
    slot: u32,
    pid: u32,
    attached: Vec<Probes>,
    /// How many plugins entries were used for.
    used: u32,
}

impl PluginProbes {
    /// No probes yet; hits of those that come will run `program`, and count for the target in `slot`.
    pub fn new(program: ProgramKind, slot: u32, pid: u32) -> Self {
        Self {
            program,
            slot,
            pid,
            attached: Vec::new(),
            used: 0,
        }
    }

    /// Attaches to a plugin. The probes are live when this returns, if their target is switched on.
    ///
    /// # Errors
    /// The kernel refuses, or there are too many plugins.
    pub fn attach(&mut self, kernel: &mut Kernel, plugin: &PluginRequest<'_>) -> Result<()> {
        let room = FIRST.saturating_add(self.used);
        // The table has the entries of one more target than its capacity says.
        if self.used >= MOST_PLUGINS || room > kernel.capacity.targets {
            return Err(Error::failed(format!(
                "probes in more than {} plugins of one process were to be attached",
                self.used
            )));
        }
        let points = points(plugin.sites, plugin.bias, self.slot);
        // Not used again, even if this fails: some of the probes may be there for a while.
        self.used += 1;
        let probes = attach::attach(
            kernel,
            attach::Request {
                program: self.program,
                points: &points,
                slot: room,
                scope: Scope::running(self.pid)?,
                file: &attach::path_of(plugin.file),
            },
        )?;
        self.attached.push(probes);
        Ok(())
    }

    /// Attaches to each of these plugins, as far as that is possible.
    pub fn attach_all(&mut self, kernel: &mut Kernel, plugins: &[PluginRequest<'_>]) -> Vec<Result<()>> {
        plugins.iter().map(|plugin| self.attach(kernel, plugin)).collect()
    }

    /// Takes all probes out, to be dropped.
    pub fn take(&mut self) -> Vec<Probes> {
        std::mem::take(&mut self.attached)
    }
}
