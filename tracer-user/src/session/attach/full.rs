//! The sources of mode `full`: transitions from the kernel's rings, and states that are read from memory.

use std::time::{Duration, Instant};

use tracer_ebpf::stacks::StackConfig;

use super::{
    prepare::Prepared,
    programs::{config, most_plugins, program_of},
};
use crate::{
    bpf::default_ring_bytes,
    clock::now_ns,
    error::{Error, Result},
    plan::{Mode, cost, describe_attempts},
    session::options::FullOptions,
    sources::{
        plugins::PluginRequest,
        transitions::{self, Readings, StacksWanted, TransitionSource},
    },
};

/// How long the loop waits for a reading of all states that was just begun: one of few goroutines is there at once.
const WAIT_FOR_STATES: Duration = Duration::from_millis(10);
/// How long the window stays open for the last reading. It gives new goroutines their ids; what has not been read by then
/// is left out.
const WAIT_FOR_LAST_STATES: Duration = Duration::from_millis(100);
/// How often transitions are collected meanwhile.
const COLLECT_EVERY: Duration = Duration::from_millis(5);
/// Parts of a reading that are taken in at once: each has some thousand goroutines, and the rings fill up meanwhile.
const PARTS_AT_ONCE: usize = 2;

/// The sources of a capture in mode `full`.
pub(super) struct Full {
    pub source: TransitionSource,
    readings: Readings,
    pub sites: usize,
    /// See [`Live::hit_factor`](super::live::Live).
    pub hit_factor: [u64; 2],
    missing: Vec<String>,
}

impl Full {
    pub fn attach(
        target: &Prepared,
        options: FullOptions,
        plugins: &[PluginRequest<'_>],
    ) -> Result<(Self, Vec<Result<()>>)> {
        let refuse = |why: String| Error::not_traceable(format!("full cannot be had: {why}"));
        let plan = target
            .reading
            .plan
            .full
            .as_ref()
            .map_err(|attempts| refuse(describe_attempts(attempts)))?;
        let unknown = || refuse("the layout of the runtime's structs is not known".to_owned());
        let layout = target.reading.layout().ok_or_else(unknown)?;
        let readings = Readings::start(target.snapshot_reader().ok_or_else(unknown)?)?;
        let mut sites = plan.sites.clone();
        if options.syscalls {
            sites.extend(plan.syscalls.iter().cloned());
        }
        let request = transitions::Request {
            pid: target.pid(),
            file: target.file(),
            sites: &sites,
            bias: target.bias(),
            config: config(target, None),
            g_waitreason: layout.g.waitreason,
            g_coroarg: layout.g.coroarg,
            syscalls: options.syscalls,
            threads: options.threads,
            ring_bytes: options.ring_bytes.unwrap_or_else(default_ring_bytes),
            program: program_of(Mode::Full),
            stacks: options.stacks.map(|most| StacksWanted {
                most,
                config: StackConfig {
                    g_stack_hi: layout.g.stack_hi,
                    g_sched_pc: layout.g.sched_pc,
                    g_sched_bp: layout.g.sched_bp,
                    reserved: 0,
                },
            }),
        };
        let (source, attached) = TransitionSource::attach(&request, plugins, most_plugins(target))?;
        let full = Self {
            source,
            readings,
            sites: sites.len(),
            hit_factor: cost::hit_ns(&sites, Some([1, 1])),
            missing: plan
                .missing
                .iter()
                .map(|attempt| format!("not seen: {}: {}", attempt.what, attempt.outcome))
                .collect(),
        };
        Ok((full, attached))
    }

    /// Whether something was lost, so that every state has to be read anew.
    pub fn needs_states(&self, now_ns: u64) -> bool {
        !self.source.is_stopped()
            && self.source.is_settled()
            && self.readings.are_needed(now_ns, self.source.lost_ns())
    }

    /// Has every goroutine, P and M read, unless the transitions have stopped or it is too soon; waits until the probes
    /// have settled.
    pub fn read_states(&mut self, now_ns: u64) {
        if self.source.is_stopped() {
            return;
        }
        self.source.settle();
        if self.readings.begin(now_ns, self.source.lost_ns()) {
            self.take_states(WAIT_FOR_STATES);
        }
    }

    /// Has all states read anew, since something happened that was not seen: at once or, if a reading is under way, when
    /// it is the turn of the next.
    pub fn read_states_anew(&mut self, now_ns: u64) {
        if self.source.is_stopped() {
            return;
        }
        if self.readings.is_under_way() || !self.source.is_settled() {
            self.source.record_unseen(now_ns);
            return;
        }
        self.readings.begin_at_once(now_ns);
        self.take_states(WAIT_FOR_STATES);
    }

    /// Takes in what has been read, and what is read within this time; nothing once the transitions have stopped.
    pub fn take_states(&mut self, within: Duration) {
        if self.source.is_stopped() {
            return;
        }
        let until = Instant::now() + within;
        for _ in 0..PARTS_AT_ONCE {
            let left = until.saturating_duration_since(Instant::now());
            let Some(part) = self.readings.take(left, self.source.lost_ns()) else {
                return;
            };
            self.source.apply_snapshot(part);
        }
    }

    /// Has all states read a last time, and collects transitions meanwhile.
    ///
    /// # Errors
    /// The transitions cannot be read.
    pub fn read_last_states(&mut self) -> Result<()> {
        let until = Instant::now() + WAIT_FOR_LAST_STATES;
        self.readings.begin_at_once(now_ns());
        while self.readings.is_under_way() && Instant::now() < until {
            self.take_states(COLLECT_EVERY);
            self.source.collect(now_ns())?;
        }
        Ok(())
    }

    pub fn notes(&self) -> Vec<String> {
        let threads = self.source.without_threads();
        let threads = threads.map(|why| format!("Linux's scheduling of the threads is not reported: {why}"));
        self.missing.iter().cloned().chain(threads).collect()
    }
}
