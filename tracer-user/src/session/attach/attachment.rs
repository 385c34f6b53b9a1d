//! How a target is attached to: what is measured before, and what is started with the probes.

use super::{cpu::CpuWatch, live::Live, prepare::Prepared};
use crate::{
    clock::now_ns,
    error::Result,
    plan::Mode,
    session::{
        neighbours::Presence,
        options::{AttachOptions, FullOptions},
    },
};

/// How a target is attached to, in whatever mode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attachment {
    /// From how long on each wait is reported by itself.
    pub slower_ns: Option<u64>,
    /// See [`AttachOptions::sample_rate`].
    sample_rate: Option<u32>,
    /// The options of mode `full`.
    pub full: FullOptions,
    /// See [`AttachOptions::runs_already`].
    runs_already: bool,
}

impl Attachment {
    /// How these options ask to attach.
    pub fn of(options: &AttachOptions) -> Self {
        Self {
            slower_ns: options.slower.map(|d| d.as_nanos() as u64),
            sample_rate: options.sample_rate,
            full: options.full,
            runs_already: options.runs_already,
        }
    }

    /// Attaches, and begins to take samples of why goroutines wait. Where there will be probes, the target's CPU time is
    /// measured before.
    ///
    /// # Errors
    /// See [`Live::attach`].
    pub fn attach(
        &self,
        target: &Prepared,
        mode: Mode,
        cpu: &mut CpuWatch,
        presence: &mut Presence,
    ) -> Result<Live> {
        if mode.has_probes() && self.runs_already {
            cpu.measure_before(&target.passive_source(), || target.cpu_ns());
            if presence.others() > 0 {
                cpu.forget_before();
            }
        }
        let mut live = Live::attach(target, mode, self.slower_ns, self.full, now_ns())?;
        live.start_sampling(target, self.sample_rate);
        Ok(live)
    }
}
