//! Attaches to one target, as its governor has asked.

use std::path::PathBuf;

use super::{Context, PendingAttach, Probing};
use crate::{
    daemon::{
        discovery::programs::AnalysedProgram,
        governor::Input,
        targets::{Target, Targets},
    },
    error::{Error, Result},
    escape::Untrusted,
    plan::{Mode, describe_attempts},
    process::{file::ProgramFile, threads},
    sources::{
        host::SlotId,
        probes::{Request, config_of},
        programs::program_for,
    },
};

impl Probing {
    /// Makes an attach that is due, and gives the answer to the governor.
    pub(super) fn attach(&mut self, pending: &PendingAttach, targets: &mut Targets, cx: &mut Context<'_>) {
        let Some(target) = targets.get_mut(pending.pid) else {
            return;
        };
        if target.id() != pending.target || target.governed_mut().is_none() {
            return;
        }
        let answer = match self.attach_to(pending, target, cx.now_ns) {
            Ok(slot) => {
                self.by_slot.insert(slot, pending.pid);
                // Measured at the kind of site that this target is probed at.
                let cost = self.kernel.cost(slot);
                if let Some(governed) = target.governed_mut() {
                    governed.slot = Some(slot);
                    let usual = self.prices.get(&pending.mode).copied().flatten();
                    let hit_ns = cost.ok().map(|cost| cost.hit_ns).or(usual);
                    governed.hit_ns = hit_ns.map_or(0, |[_, high]| high);
                    let (mode, hit_ns) = (pending.mode, governed.hit_ns);
                    let _ = governed
                        .governor
                        .handle(cx.now_ns, Input::Priced { mode, hit_ns });
                }
                // The window begins now.
                let _ = target.begin_window(cx.now_ns);
                Input::Attached
            }
            Err(e) => {
                let file = target.watching().map(|watched| watched.known.file.id);
                let e = target.life().explain(e, file);
                cx.errors.add("attach", &e, cx.now_ns);
                Input::AttachFailed {
                    why: e.message.clone(),
                }
            }
        };
        self.apply(target, answer, cx);
    }

    fn attach_to(&mut self, pending: &PendingAttach, target: &Target, now_ns: u64) -> Result<SlotId> {
        let watched = target
            .watching()
            .ok_or_else(|| Error::not_traceable(format!("process {} is not read", pending.pid)))?;
        let reading = watched.reading();
        if !matches!(pending.mode, Mode::Sampled | Mode::Exact) {
            return Err(Error::failed(format!(
                "the daemon does not trace with {}",
                pending.mode
            )));
        }
        let sites = reading.plan.sites(pending.mode).map_err(|attempts| {
            Error::not_traceable(format!("no place to attach to: {}", describe_attempts(attempts)))
        })?;
        if watched.clock.is_none()
            && let Some(obstacle) = reading.plan.clock_obstacle(pending.mode)
        {
            return Err(Error::not_traceable(obstacle));
        }
        let file = program_of(pending.pid, &watched.known)?;
        if target.life().has_ended() || target.life().has_execed() {
            return Err(Error::not_traceable(format!(
                "process {} has ended or become another program",
                pending.pid
            )));
        }
        let request = Request {
            pid: pending.pid,
            file: file.file(),
            program: program_for(pending.mode),
            sites,
            bias: watched.bias,
            config: config_of(
                reading.layout(),
                reading.tracking_stamp(),
                &watched.globals,
                watched.bias,
                watched.clock.unwrap_or_default(),
            ),
            goroutines: target.goroutines().unwrap_or(u64::MAX),
        };
        self.kernel.attach(&request, Some(pending.hits), now_ns)
    }
}

/// Opens the file that a process runs, if it is still the very file that was analysed.
pub fn program_of(pid: u32, known: &AnalysedProgram) -> Result<ProgramFile> {
    let path = PathBuf::from(format!("{}/exe", threads::folder(pid)));
    let file = ProgramFile::open_as(&path, Untrusted::path(&path))?;
    if file.state() != known.file {
        return Err(Error::not_traceable(format!(
            "process {pid} runs another program by now, or its file was written to"
        )));
    }
    Ok(file)
}
