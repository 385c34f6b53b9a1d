//! The part of the runner that drives the source of starts: attaching, collecting, and what was missed.

use std::time::{Duration, Instant};

use super::{
    Input, StartsOf,
    child::Held,
    programs::Programs,
    runner::{Runner, input_of},
    tree::Found,
};
use crate::{
    bpf::LinkKind,
    clock::now_ns,
    error::{Error, Result},
    output::text::layout,
    session::attach::live::attached_by,
    sources::starts::{
        Binary, StartSource, TracedProcesses,
        gate::{Gate, GateCounts, Question},
    },
    stream::{
        Observation,
        step::{ONLY_BINARY, StartStep},
    },
};

/// System calls of at least this length are reported.
const SLOW_CALL: Duration = Duration::from_millis(1);

impl Runner {
    /// Makes a process that waits before its execve.
    ///
    /// # Errors
    /// It could not be made, or not be watched.
    pub(super) fn hold(&mut self) -> Result<()> {
        let invocation = self
            .invocation
            .as_ref()
            .ok_or_else(|| Error::failed("there is no command to hold"))?;
        let held = Held::spawn(invocation)?;
        held.pidfd
            .try_clone()
            .and_then(|pidfd| self.clocks.watch_command(pidfd))
            .map_err(|e| Error::failed(format!("process {} cannot be watched: {e}", held.pid)))?;
        self.environment.read_held(held.pid);
        self.record(StartStep::Command { pid: held.pid });
        self.held = Some(held);
        Ok(())
    }

    /// Attaches the probes, or closes the gate of a tree.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn attach(&mut self) -> Result<()> {
        if self.source.is_some() {
            let again = self.attach_again();
            if let Err(e) = &again {
                log::error!("{e}");
                self.note(format!("the next run could not be traced: {e}"));
            }
            return again;
        }
        let held = self.held.as_ref().map(|held| held.pid);
        let traced = match (self.policy.starts_of, held) {
            _ if self.policy.tree => TracedProcesses::Tree,
            (StartsOf::Command { runs: 1 }, Some(pid)) => TracedProcesses::Held(pid),
            (StartsOf::Command { .. }, _) => TracedProcesses::HeldInTurn,
            (StartsOf::Binary { .. }, _) if self.policy.whole_binary => TracedProcesses::Any,
            (StartsOf::Binary { .. }, _) => TracedProcesses::Next,
        };
        let mut source = StartSource::load(traced, SLOW_CALL)?;
        if let Some(why) = source.without_usage() {
            self.note(format!("time off the CPU and page faults are not known: {why}"));
        }
        match &mut self.programs {
            Programs::One(program) => {
                let file = &program.target.file;
                let binary = Binary {
                    file: file.file(),
                    plan: &program.plan,
                };
                match (traced, held) {
                    (TracedProcesses::HeldInTurn, Some(pid)) => {
                        source.probe_held(ONLY_BINARY, binary, pid)?
                    }
                    _ => source.probe(ONLY_BINARY, binary)?,
                }
                if traced == TracedProcesses::Next {
                    source.close_gate_for(ONLY_BINARY, file.file(), file.state())?;
                }
                for attempt in &program.plan.missing {
                    log::info!("not probed: {}: {}", attempt.what, attempt.outcome);
                }
                let said = format!(
                    "{} ({}), starts, {} probed instructions",
                    layout::word(program.target.file.name(), usize::MAX),
                    layout::word(&program.target.facts.version.raw.as_str().into(), usize::MAX),
                    source.sites()
                );
                self.record_attached_by(source.link_kind());
                self.report_attached(&said);
            }
            Programs::Tree(tree) => {
                tree.listen(source.close_gate()?);
                let watches = source.gate().map_or(0, |gate| gate.watches);
                self.report_attached(&format!(
                    "the command and all that descends from it, on {watches} file systems"
                ));
            }
        }
        self.source = Some(source);
        if matches!(self.policy.starts_of, StartsOf::Binary { .. }) {
            self.open_window();
        }
        Ok(())
    }

    /// Attaches to the process of the next run, and detaches from the one before.
    fn attach_again(&mut self) -> Result<()> {
        let (Programs::One(program), Some(source), Some(held)) =
            (&self.programs, &mut self.source, &self.held)
        else {
            return Ok(());
        };
        let binary = Binary {
            file: program.target.file.file(),
            plan: &program.plan,
        };
        source.probe_held(ONLY_BINARY, binary, held.pid)
    }

    fn record_attached_by(&mut self, kind: Option<LinkKind>) {
        let by = kind.map(attached_by);
        self.record(StartStep::Attached { by });
    }

    /// Releases the held process.
    pub(super) fn release(&mut self) -> Vec<Input> {
        let (Some(held), Some(source)) = (&mut self.held, &mut self.source) else {
            return vec![];
        };
        let followed = source.hold(held.pid);
        self.open_window();
        self.released = Some(Instant::now());
        // Whatever fails on our side, the command must run.
        if let Some(held) = &mut self.held {
            held.release();
        }
        followed
            .err()
            .map(|error| Input::SourceFailed { error })
            .into_iter()
            .collect()
    }

    /// Takes over what the kernel has sent.
    pub(super) fn collect(&mut self) -> Vec<Input> {
        let Some(source) = &mut self.source else {
            return vec![];
        };
        let seen = match source.observe(now_ns(), &self.programs) {
            Ok(seen) => seen,
            Err(error) => return vec![Input::SourceFailed { error }],
        };
        let (ended, written) = self.observe(&seen);
        let inputs = ended
            .iter()
            .map(|(pid, binary)| self.start_ended(*pid, *binary))
            .collect::<Vec<_>>();
        inputs.into_iter().chain(input_of(written)).collect()
    }

    fn start_ended(&mut self, pid: u32, binary: u32) -> Input {
        if let Some(tree) = self.programs.tree() {
            tree.used(binary);
        }
        if self.invocation.is_none() {
            self.environment.read_other(pid);
            self.record_environment();
        }
        Input::StartEnded
    }

    /// Returns the system calls that open starts are in right now.
    pub(super) fn unfinished(&mut self) -> Vec<Observation> {
        let pids = self.open.open();
        let Some(source) = &mut self.source else {
            return vec![];
        };
        let calls = pids.into_iter().map(|pid| source.unfinished(pid, now_ns()));
        calls.filter_map(|call| call.ok().flatten()).collect()
    }

    /// Answers the gate, where a process waits with a program that is not known yet.
    pub(super) fn answer(&mut self, question: Question) -> Vec<Input> {
        // A slot of the kernel's tables may be reused for another binary: take over what was sent for the old one.
        let inputs = self.collect();
        let (Programs::Tree(tree), Some(source)) = (&mut self.programs, &mut self.source) else {
            return inputs;
        };
        let open = &self.open;
        let found = tree.answer(question, source, |binary| open.has_open(binary));
        let kind = source.link_kind();
        if let Some(Found {
            number,
            info,
            dynamic,
            merged,
        }) = found
        {
            self.record_attached_by(kind);
            if dynamic {
                self.open.set_dynamic(number);
            }
            self.record(StartStep::Binary {
                number,
                info,
                dynamic,
                merged,
            });
        }
        inputs
    }

    /// Stops following what is left of the command's tree after the command has ended.
    pub(super) fn release_tree(&mut self) {
        let Some(source) = self.source.as_mut().filter(|_| self.policy.tree) else {
            return;
        };
        match source.unfollow_tree() {
            Ok(processes) => self.record(StartStep::Outlived { processes }),
            Err(e) => log::warn!("{e}"),
        }
    }

    /// Records what the gate has seen.
    pub(super) fn record_gate(&mut self) {
        let gate = self.source.as_ref().and_then(StartSource::gate);
        let Some(gate) = gate.filter(|_| self.policy.tree) else {
            return;
        };
        let counts = gate.counts();
        let step = StartStep::Gate {
            watched_file_systems: gate.watches as u64,
            not_watched: gate.left.clone(),
            execs_of_others: counts.as_ref().map_or(0, |counts| counts.others),
            released_unprobed: counts.as_ref().map_or(0, |counts| counts.released_by_watchdog),
        };
        self.record(step);
        match counts {
            Some(counts) => counts.notes().into_iter().for_each(|note| self.note(note)),
            None => self.note("programs were held no longer: the gate's thread has ended".to_owned()),
        }
    }

    /// Records the starts that were not traced.
    pub(super) fn record_missed(&mut self) {
        let Some(missed) = self.source.as_ref().map(StartSource::missed) else {
            return;
        };
        let (mut starts, mut why) = (missed.count(), missed.why());
        if !self.policy.tree
            && let Some(counts) = self.source.as_ref().and_then(StartSource::gate).map(Gate::counts)
        {
            let counts = counts.unwrap_or_else(|| GateCounts {
                over: Some("programs were held no longer: the gate's thread has ended".to_owned()),
                ..GateCounts::default()
            });
            starts = starts.max(counts.released_by_watchdog);
            if counts.shortages > 0 || counts.standstills > 0 || counts.over.is_some() {
                // Nothing was held meanwhile: how many starts there were is not known.
                starts = starts.max(1);
            }
            for note in counts.notes() {
                why.get_or_insert_with(|| note.clone());
                self.note(note);
            }
        }
        let Some(why) = why.filter(|_| starts > 0) else {
            return;
        };
        self.record(StartStep::Missed { starts });
        self.note(match starts {
            1 => format!("1 start was not traced: {why}"),
            n => format!("{n} starts were not traced; the last of them: {why}"),
        });
    }

    /// Stops ourselves, as the terminal asks for. The gate is paused, since nobody would answer it meanwhile.
    pub(super) fn stop(&mut self) {
        let gate = self.source.as_ref().and_then(StartSource::gate);
        if let Some(gate) = gate {
            gate.pause();
        }
        if let Err(e) = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP) {
            log::warn!("stopping failed: {e}");
        }
        if let Some(gate) = gate {
            gate.resume();
        }
    }
}
