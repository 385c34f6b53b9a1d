//! The probes on one binary's starts, and the starts that are under way.

use std::collections::{BTreeMap, BTreeSet};

use super::{candidate::Candidate, counts::Counted};
use crate::{
    daemon::error_log::ErrorLog,
    error::{Error, Result},
    escape::Untrusted,
    model::start::Starts,
    session::start::program::Program,
    sources::{
        host::{HostKernel, SlotId, StartsBy, StartsRequest},
        starts::{Functions, gate::Missed},
    },
    stream::Kind,
};

/// The number of a binary among those of its slot, which has only one.
const ONLY: u32 = 0;
/// A start that has not reached `main.main` after this time is given up.
const LONGEST_START_NS: u64 = 300_000_000_000;

/// A binary whose starts are timed.
pub struct Timed {
    /// The slot of its probes.
    pub slot: SlotId,
    program: Box<Program>,
    open: Starts,
    /// When each open start was first seen.
    since_ns: BTreeMap<u32, u64>,
    /// How many starts were missed so far.
    missed: u64,
    /// How often so far starts were not held for a while.
    gaps: u64,
}

/// The names of the functions of one binary.
struct Names<'a>(&'a Program);

impl Functions for Names<'_> {
    fn beginning_at(&self, _: u32, addresses: &BTreeSet<u64>) -> BTreeMap<u64, String> {
        self.0.functions(addresses)
    }
}

impl Timed {
    /// Attaches to a candidate that was analysed.
    ///
    /// # Errors
    /// Its file has changed, or attaching failed.
    pub fn attach(candidate: &Candidate, program: Box<Program>, kernel: &mut HostKernel) -> Result<Self> {
        if program.target.file.state() != candidate.state {
            return Err(Error::not_traceable(format!(
                "{}: is another file by now",
                candidate.exe
            )));
        }
        let request = StartsRequest {
            file: program.target.file.file(),
            plan: &program.plan,
            by: match candidate.whole {
                true => StartsBy::WholeBinary,
                false => StartsBy::Holding(candidate.state),
            },
        };
        let slot = kernel.attach_starts(&request)?;
        for merged in program.merged_phases() {
            log::info!(
                "{}: the phase {} of a start is part of {}: {}",
                candidate.exe,
                merged.phase,
                merged.into,
                merged.why
            );
        }
        let mut open = Starts::default();
        if program.plan.dynamic {
            open.set_dynamic(ONLY);
        }
        Ok(Self {
            slot,
            program,
            open,
            since_ns: BTreeMap::new(),
            missed: 0,
            gaps: 0,
        })
    }

    /// Reads what was observed, and counts the starts that are over.
    pub fn read(
        &mut self,
        exe: &Untrusted,
        kernel: &mut HostKernel,
        counted: &mut Counted,
        errors: &mut ErrorLog,
        now_ns: u64,
    ) {
        let seen = match kernel.observe_starts(self.slot, now_ns, &Names(&self.program)) {
            Ok(seen) => seen,
            Err(e) => return errors.add("starts", &e, now_ns),
        };
        if !seen.is_empty() {
            counted.used_ns = now_ns;
        }
        if let Ok(missed) = kernel.missed_starts(self.slot) {
            self.count_missed(missed, exe, counted, errors, now_ns);
        }
        for observation in &seen {
            match &observation.kind {
                Kind::Event(_) => {
                    if let Some(start) = self.open.observe(observation) {
                        counted.add(&start);
                    }
                }
                Kind::Loss(loss) => {
                    errors.add(
                        loss.cause.name(),
                        &format!("{} marks of starts of {exe}", loss.count),
                        now_ns,
                    );
                }
                _ => {}
            }
        }
        self.give_up(counted, now_ns);
    }

    /// Counts the starts that were not timed since the last call.
    fn count_missed(
        &mut self,
        missed: &Missed,
        exe: &Untrusted,
        counted: &mut Counted,
        errors: &mut ErrorLog,
        now_ns: u64,
    ) {
        let (count, gaps) = (missed.count(), missed.gaps());
        let new = count.saturating_sub(std::mem::replace(&mut self.missed, count));
        let new_gaps = gaps.saturating_sub(std::mem::replace(&mut self.gaps, gaps));
        let why = missed.why().unwrap_or_default();
        if new > 0 {
            counted.missed = counted.missed.saturating_add(new);
            errors.add("starts_missed", &format!("{new} starts of {exe}: {why}"), now_ns);
        }
        if new_gaps > 0 {
            errors.add(
                "starts_not_held",
                &format!("starts of {exe} may be missing, it is not known how many: {why}"),
                now_ns,
            );
        }
    }

    /// Gives up starts whose end was lost, which would stay open for ever.
    fn give_up(&mut self, counted: &mut Counted, now_ns: u64) {
        let open = self.open.open();
        self.since_ns.retain(|pid, _| open.contains(pid));
        for pid in open {
            let since = *self.since_ns.entry(pid).or_insert(now_ns);
            if now_ns.saturating_sub(since) > LONGEST_START_NS
                && let Some(start) = self.open.cut(pid, now_ns)
            {
                counted.add(&start);
            }
        }
    }
}
