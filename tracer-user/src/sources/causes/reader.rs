//! Reads the scheduler's state from a target's memory.
//!
//! Where a sample follows another, one call reads all of it: the addresses of the Ps are known, and `allp` is read with
//! them, which says whether they still are those. Each range of a call costs some 0.3 µs, and far more where its page
//! was not used for a while, so that there are three for each P, of what is needed and nothing besides; and where
//! every P is idle, which is when a target should cost least, `sched` and `allp` are enough.

use super::span::{Span, WORD, range, word};
use super::state::{Holder, P, P_IDLE, State};
use crate::binary::Globals;
use crate::binary::layout::{Layout, Sched};
use crate::model::sched::Reasons;
use crate::process::memory::{Memory, MemoryRange, ReadError};
use crate::stream::transition::status;

/// Most Ps that are read, as in the gauges.
const MAX_PS: u64 = 1 << 13;
/// The length of the pointer and the length of a slice.
const SLICE: usize = 2 * WORD;

/// What a reading has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// All of the state.
    All,
    /// All Ps are idle, as they were when all was read. The ticks of the Ps are those of that time.
    Idle,
    /// A P changed its state meanwhile, or what lies there is not a scheduler.
    Torn,
}

/// The numbers in `sched`.
#[derive(Clone, Copy, Debug)]
struct Counts {
    queued: u32,
    stopping: bool,
    listed_idle: u32,
    spinning: u32,
}

impl Counts {
    fn of(span: Span, sched: &Sched, bytes: &[u8]) -> Self {
        // Each is an int32 that is never negative; the runtime may be in the middle of a change.
        let count = |field: u32| span.half(bytes, field).cast_signed().max(0).cast_unsigned();
        Self {
            queued: count(sched.runqsize),
            stopping: span.half(bytes, sched.gcwaiting) as u8 != 0,
            listed_idle: count(sched.npidle),
            spinning: count(sched.nmspinning),
        }
    }

    fn put(self, state: &mut State) {
        state.runnable = u64::from(self.queued);
        state.stopping = self.stopping;
        state.listed_idle = self.listed_idle;
        state.spinning = self.spinning;
    }
}

/// Reads the state of one process again and again. Buffers are kept.
#[derive(Debug)]
pub(super) struct StateReader<M> {
    memory: M,
    /// Run-time addresses.
    sched: u64,
    allp: u64,
    layout: Layout,
    /// What a P does, and its queue.
    of_front: Span,
    /// What a P does, to be read again.
    of_state: Span,
    of_sched: Span,
    of_m: Span,
    of_g: Span,
    /// What an M runs, to be read again.
    of_curg: Span,
    /// Why goroutines wait, in the target's version of Go.
    reasons: Reasons,
    /// The slice `allp` when its elements were read.
    slice: [u64; 2],
    ps: Vec<u64>,
    /// What is read of these Ps; empty where they are not known. The queues are between two readings of what the Ps do.
    ranges: Vec<MemoryRange>,
    /// The length of those.
    length: usize,
    bytes: Vec<u8>,
    /// Whether all Ps were idle, and nothing was queued, when they were last read.
    were_idle: bool,
    /// The ranges of those that hold Ps, and what was read of them.
    few: Vec<MemoryRange>,
    few_bytes: Vec<u8>,
    /// The goroutines that those run.
    running: Vec<u64>,
}

impl<M: Memory> StateReader<M> {
    /// A reader; `globals` are link-time addresses. `None` where one of them is not known.
    pub(super) fn new(memory: M, globals: &Globals, bias: u64, layout: &Layout) -> Option<Self> {
        let (p, sched, m, g) = (&layout.p, &layout.sched, &layout.m, &layout.g);
        Some(Self {
            memory,
            sched: globals.sched?.wrapping_add(bias),
            allp: globals.allp?.wrapping_add(bias),
            of_front: Span::of(&[p.status, p.schedtick, p.m, p.runqhead, p.runqtail]),
            of_state: Span::of(&[p.status, p.m]),
            of_sched: Span::of(&[sched.npidle, sched.nmspinning, sched.runqsize, sched.gcwaiting]),
            of_m: Span::of(&[m.procid, m.curg, m.p]),
            of_g: Span::of(&[g.atomicstatus, g.waitreason]),
            of_curg: Span::of(&[m.curg]),
            reasons: Reasons::of(0),
            layout: layout.clone(),
            slice: [0; 2],
            ps: Vec::new(),
            ranges: Vec::new(),
            length: 0,
            bytes: Vec::new(),
            were_idle: false,
            few: Vec::new(),
            few_bytes: Vec::new(),
            running: Vec::new(),
        })
    }

    /// Sets the minor version of the target's Go: 27 for Go 1.27.3.
    pub(super) fn set_minor(&mut self, minor: u32) {
        self.reasons = Reasons::of(minor);
    }

    /// Reads the state into `state`, which is that of the last reading. With `ticks`, those of the Ps are needed.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn read(&mut self, state: &mut State, ticks: bool) -> Result<Seen, ReadError> {
        let seen = self.read_known(state, ticks);
        if seen.is_err() {
            // The Ps may be others than those whose addresses are known.
            self.ranges.clear();
        }
        self.were_idle = match seen {
            Ok(Seen::All) => state.runnable == 0 && are_all(state.listed_idle, &self.ps),
            Ok(Seen::Idle) => true,
            Ok(Seen::Torn) | Err(_) => false,
        };
        seen
    }

    fn read_known(&mut self, state: &mut State, ticks: bool) -> Result<Seen, ReadError> {
        if self.were_idle && !ticks && self.are_still_idle(state)? {
            return Ok(Seen::Idle);
        }
        // Once more, if they are others now.
        for _ in 0..2 {
            if self.ranges.is_empty() && !self.find_ps()? {
                return Ok(Seen::Torn);
            }
            self.bytes.resize(self.length, 0);
            self.memory.read_ranges(&self.ranges, &mut self.bytes)?;
            match self.decode(state) {
                Some(seen) => return Ok(seen),
                None => self.ranges.clear(),
            }
        }
        Ok(Seen::Torn)
    }

    /// Gives back the memory of what was read last, for where many processes are sampled.
    pub(super) fn release(&mut self) {
        self.bytes = Vec::new();
    }

    /// Reads whether all Ps are in the list of idle ones, as they were, and nothing is in the global queue. Then nothing
    /// is in theirs either: the runtime puts a P into the list with an empty queue (`pidleput`).
    fn are_still_idle(&mut self, state: &mut State) -> Result<bool, ReadError> {
        self.bytes.resize(self.length, 0);
        let many = self.ps.len();
        let ranges = self.ranges.get(many..many.saturating_add(2));
        let bytes = self.bytes.get_mut(..self.of_sched.length + SLICE);
        let (Some(ranges), Some(bytes)) = (ranges, bytes) else {
            return Ok(false);
        };
        self.memory.read_ranges(ranges, bytes)?;
        let mut rest = &*bytes;
        let sched = take(&mut rest, self.of_sched.length);
        let counts = Counts::of(self.of_sched, &self.layout.sched, sched);
        if pair(rest) != self.slice || counts.queued > 0 || !are_all(counts.listed_idle, &self.ps) {
            return Ok(false);
        }
        counts.put(state);
        for p in &mut state.ps {
            (p.status, p.m) = (P_IDLE, 0);
        }
        Ok(true)
    }

    /// Makes a state of what was read; `None` if the Ps are others now.
    fn decode(&self, state: &mut State) -> Option<Seen> {
        let (many, layout) = (self.ps.len(), &self.layout.p);
        let mut rest = self.bytes.as_slice();
        let fronts = take(&mut rest, many * self.of_front.length);
        let sched = take(&mut rest, self.of_sched.length);
        if pair(take(&mut rest, SLICE)) != self.slice {
            return None;
        }
        let nexts = take(&mut rest, many * WORD);
        Counts::of(self.of_sched, &self.layout.sched, sched).put(state);
        state.ps.clear();
        let ranges = fronts
            .chunks_exact(self.of_front.length)
            .zip(nexts.chunks_exact(WORD))
            .zip(rest.chunks_exact(self.of_state.length));
        for (((front, next), again), p) in ranges.zip(&self.ps) {
            let (of_front, of_state) = (self.of_front, self.of_state);
            let p = P {
                p: *p,
                status: of_front.half(front, layout.status),
                m: of_front.word(front, layout.m),
                schedtick: of_front.half(front, layout.schedtick),
            };
            let now = (
                of_state.half(again, layout.status),
                of_state.word(again, layout.m),
            );
            if now != (p.status, p.m) {
                return Some(Seen::Torn);
            }
            let head = of_front.half(front, layout.runqhead);
            let tail = of_front.half(front, layout.runqtail);
            // The queue's indexes wrap. A P that runs moves both, and the head may have passed the tail.
            let length = tail.wrapping_sub(head).cast_signed().max(0).cast_unsigned();
            let has_next = word(next) != 0;
            state.runnable += u64::from(length.min(layout.runq_len)) + u64::from(has_next);
            state.ps.push(p);
        }
        Some(Seen::All)
    }

    /// Reads the addresses of the Ps. Returns whether there are any, and all are there: `procresize` publishes the slice
    /// before its last elements.
    fn find_ps(&mut self) -> Result<bool, ReadError> {
        let mut slice = [0; 2];
        self.memory.read_u64s(self.allp, &mut slice)?;
        let [pointer, length] = slice;
        if length == 0 || length > MAX_PS {
            return Ok(false);
        }
        self.ps.resize(usize::try_from(length).unwrap_or(0), 0);
        self.memory.read_u64s(pointer, &mut self.ps)?;
        if self.ps.contains(&0) {
            return Ok(false);
        }
        self.slice = slice;
        let next = |p: &u64| range(p.wrapping_add(u64::from(self.layout.p.runnext)), WORD);
        self.ranges.extend(self.ps.iter().map(|p| self.of_front.at(*p)));
        self.ranges.push(self.of_sched.at(self.sched));
        self.ranges.push(range(self.allp, SLICE));
        self.ranges.extend(self.ps.iter().map(next));
        self.ranges.extend(self.ps.iter().map(|p| self.of_state.at(*p)));
        self.length = self.ranges.iter().map(|range| range.len).sum();
        Ok(true)
    }

    /// Reads who holds these Ps, without those whose M has given them up meanwhile.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn holders(&mut self, ps: &[P], holders: &mut Vec<Holder>) -> Result<(), ReadError> {
        holders.clear();
        let (m, of_m) = (&self.layout.m, self.of_m);
        let mode = u64::from(self.layout.p.gc_mark_worker_mode);
        self.few.clear();
        self.running.clear();
        for p in ps {
            self.few.push(of_m.at(p.m));
            self.few.push(range(p.p.wrapping_add(mode), WORD));
        }
        self.few_bytes.resize(ps.len() * (of_m.length + WORD), 0);
        self.memory.read_ranges(&self.few, &mut self.few_bytes)?;
        self.few.clear();
        let read = self.few_bytes.chunks_exact(of_m.length + WORD);
        for (p, bytes) in ps.iter().zip(read) {
            let mut mode = bytes;
            let machine = take(&mut mode, of_m.length);
            let (thread, running) = (of_m.word(machine, m.procid), of_m.word(machine, m.curg));
            if of_m.word(machine, m.p) != p.p || thread == 0 {
                continue;
            }
            if running != 0 {
                self.few.push(self.of_g.at(running));
                self.few.push(self.of_curg.at(p.m));
                self.running.push(running);
            }
            holders.push(Holder {
                thread,
                // Known below.
                goroutine: (running != 0).then_some(0),
                marks: word(mode) != 0,
            });
        }
        self.few_bytes
            .resize(self.running.len() * (self.of_g.length + self.of_curg.length), 0);
        if self.few.is_empty() {
            return Ok(());
        }
        self.memory.read_ranges(&self.few, &mut self.few_bytes)?;
        let read = self
            .few_bytes
            .chunks_exact(self.of_g.length + self.of_curg.length);
        let holding = holders.iter_mut().filter(|holder| holder.goroutine.is_some());
        for ((holder, running), bytes) in holding.zip(&self.running).zip(read) {
            let mut again = bytes;
            let goroutine = take(&mut again, self.of_g.length);
            holder.goroutine = match self.of_curg.word(again, m.curg) == *running {
                true => self.status(goroutine),
                // It ran when that was read first; what is known of it is from later.
                false => Some(status::RUNNING),
            };
        }
        Ok(())
    }

    /// The status of a goroutine that an M has; `None` where the M is about to run another.
    fn status(&self, goroutine: &[u8]) -> Option<u8> {
        let g = &self.layout.g;
        let status = (self.of_g.half(goroutine, g.atomicstatus) & !status::SCAN) as u8;
        let reason = self.of_g.half(goroutine, g.waitreason) as u8;
        // One that waits and still has its M is being parked, unless it only says so.
        (status != status::WAITING || self.reasons.still_runs(reason)).then_some(status)
    }
}

fn are_all(number: u32, ps: &[u64]) -> bool {
    usize::try_from(number).is_ok_and(|number| number == ps.len())
}

/// Takes the first bytes of what is left.
fn take<'b>(rest: &mut &'b [u8], length: usize) -> &'b [u8] {
    let (first, behind) = rest.split_at(length.min(rest.len()));
    *rest = behind;
    first
}

/// The first two words.
fn pair(bytes: &[u8]) -> [u64; 2] {
    [word(bytes), word(bytes.get(WORD..).unwrap_or_default())]
}
