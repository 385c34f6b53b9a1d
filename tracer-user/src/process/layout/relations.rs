//! Relations between the runtime's variables and structs that hold at every moment, whatever the process does. Each
//! struct is read by one call, and values that are read at different moments are compared only if they never change
//! (addresses of structs, ids, the link from an M to its g0 and back).

use std::collections::BTreeSet;

use crate::binary::layout::Layout;
use crate::process::memory::{Memory, ReadError};

/// Most Ps or goroutines that are plausible.
const MAX_PROCS: u64 = 1 << 20;
const MAX_GOROUTINES: u64 = 1 << 28;
/// How many goroutines, Ps and Ms are checked.
const GOROUTINES: u64 = 16;
const PROCS: u64 = 64;
const THREADS: usize = 512;
/// Plausible times since the program was started, and counts of events, are below this: 36 years, 7 × 10^16 events. A
/// time as such may be anything that fits an int64, since a time namespace can shift the clock by 146 years
/// (kernel/time/namespace.c).
const ABSURD_NS: u64 = 1 << 60;
const ABSURD_COUNT: u64 = 1 << 56;
/// Largest struct that is read; `p` and `schedt` are below 16 KiB.
const MAX_STRUCT: u32 = 1 << 16;

/// Why a check did not confirm a variable.
pub(super) enum Doubt {
    /// The memory is different, perhaps only for a moment.
    Wrong(String),
    /// The memory is all zero.
    Unset,
    /// It cannot be read.
    Blind(String),
}

impl From<ReadError> for Doubt {
    fn from(e: ReadError) -> Self {
        match e {
            // A wrong address is unmapped, or a wrong offset yields a pointer to unmapped memory.
            ReadError::Unmapped { address, length, .. } => Doubt::Wrong(format!(
                "it leads to {address:#x}, where no {length} bytes can be read"
            )),
            other => Doubt::Blind(other.to_string()),
        }
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Doubt> {
    Err(Doubt::Wrong(what.into()))
}

/// A process's memory, read as the runtime's structs.
pub(super) struct RuntimeMemory<'a, M> {
    pub(super) memory: &'a M,
    pub(super) layout: Option<&'a Layout>,
}

/// The header of a slice, which is not empty.
struct Slice {
    first: u64,
    len: u64,
}

/// The bytes of a struct at one moment.
struct Struct(Vec<u8>);

impl Struct {
    fn half(&self, offset: u32) -> Result<u32, Doubt> {
        let bytes = self.0.get(offset as usize..).and_then(|rest| rest.first_chunk());
        bytes.map_or_else(
            || wrong("a field lies outside its struct"),
            |bytes| Ok(u32::from_ne_bytes(*bytes)),
        )
    }

    fn word(&self, offset: u32) -> Result<u64, Doubt> {
        let bytes = self.0.get(offset as usize..).and_then(|rest| rest.first_chunk());
        bytes.map_or_else(
            || wrong("a field lies outside its struct"),
            |bytes| Ok(u64::from_ne_bytes(*bytes)),
        )
    }
}

impl<M: Memory> RuntimeMemory<'_, M> {
    fn layout(&self) -> Result<&Layout, Doubt> {
        self.layout
            .ok_or_else(|| Doubt::Blind("the layout of the runtime's structs is not known".into()))
    }

    fn word(&self, base: u64, offset: u32) -> Result<u64, Doubt> {
        Ok(self.memory.read_u64(base.wrapping_add(u64::from(offset)))?)
    }

    fn read(&self, address: u64, size: u32) -> Result<Struct, Doubt> {
        if size > MAX_STRUCT {
            return Err(Doubt::Blind(format!(
                "a struct of {size} bytes is too large to be read"
            )));
        }
        let mut bytes = vec![0; size as usize];
        self.memory.read(address, &mut bytes)?;
        Ok(Struct(bytes))
    }

    fn slice(&self, address: u64, most: u64) -> Result<Slice, Doubt> {
        let mut header = [0; 3];
        self.memory.read_u64s(address, &mut header)?;
        match header {
            [0, 0, 0] => Err(Doubt::Unset),
            [first, len, cap]
                if pointer(first) && (1..=most).contains(&len) && (len..=2 * most).contains(&cap) =>
            {
                Ok(Slice { first, len })
            }
            [first, len, cap] => wrong(format!(
                "no slice: pointer {first:#x}, length {len}, capacity {cap}"
            )),
        }
    }

    fn element(&self, slice: &Slice, index: u64) -> Result<u64, Doubt> {
        Ok(self
            .memory
            .read_u64(slice.first.wrapping_add(index.wrapping_mul(8)))?)
    }

    /// `gomaxprocs`: procresize sets it and the length of `allp` while the world is stopped.
    pub(super) fn gomaxprocs(&self, address: u64, allp: Option<u64>) -> Result<(), Doubt> {
        let n = u64::from(self.memory.read_u32(address)?);
        if n == 0 {
            return Err(Doubt::Unset);
        }
        if n > MAX_PROCS {
            return wrong(format!("it is {n}"));
        }
        match allp.map(|a| self.slice(a, MAX_PROCS)) {
            Some(Ok(allp)) if allp.len != n => wrong(format!("it is {n}, but allp has {}", allp.len)),
            _ => Ok(()),
        }
    }

    /// `allp`: `allp[i].id == i`.
    pub(super) fn allp(&self, address: u64) -> Result<(), Doubt> {
        let allp = self.slice(address, MAX_PROCS)?;
        let layout = &self.layout()?.p;
        let fields = [
            layout.id,
            layout.status,
            layout.m,
            layout.runqhead,
            layout.runqtail,
        ];
        let size = fields.into_iter().max().unwrap_or(0).saturating_add(8);
        for index in 0..allp.len.min(PROCS) {
            let address = self.element(&allp, index)?;
            if !pointer(address) {
                return wrong(format!("allp[{index}] is {address:#x}"));
            }
            let p = self.read(address, size)?;
            let (id, status) = (p.half(layout.id)?, p.half(layout.status)?);
            if u64::from(id) != index || status > 4 {
                return wrong(format!("allp[{index}] has id {id} and status {status}"));
            }
            let queued = p.half(layout.runqtail)?.wrapping_sub(p.half(layout.runqhead)?);
            if queued > layout.runq_len {
                return wrong(format!("allp[{index}] has {queued} goroutines queued"));
            }
            let m = p.word(layout.m)?;
            if m != 0 && !pointer(m) {
                return wrong(format!("allp[{index}].m is {m:#x}"));
            }
        }
        Ok(())
    }

    /// `sched`: counts within what they count.
    pub(super) fn sched(&self, address: u64, allp: Option<u64>) -> Result<(), Doubt> {
        let layout = &self.layout()?.sched;
        let procs = match allp.map(|a| self.slice(a, MAX_PROCS)) {
            Some(Ok(allp)) => allp.len,
            _ => MAX_PROCS,
        };
        let sched = self.read(address, layout.size)?;
        let (resized, goidgen) = (sched.word(layout.procresizetime)?, sched.word(layout.goidgen)?);
        // procresize is the last step of schedinit, before the first goroutine.
        if resized == 0 || goidgen == 0 {
            return Err(Doubt::Unset);
        }
        let mnext = sched.word(layout.mnext)?;
        for (what, offset, most) in [
            ("npidle", layout.npidle, procs),
            ("nmspinning", layout.nmspinning, procs),
            ("nmidle", layout.nmidle, mnext),
            ("ngsys", layout.ngsys, MAX_GOROUTINES),
            ("runqsize", layout.runqsize, MAX_GOROUTINES),
            ("gcwaiting", layout.gcwaiting, 1),
            ("sysmonwait", layout.sysmonwait, 1),
        ] {
            let n = sched.half(offset)?;
            if u64::from(n) > most {
                return wrong(format!("{what} is {n}, more than {most}"));
            }
        }
        let lastpoll = sched.word(layout.lastpoll)?;
        let latest = u64::MAX >> 1;
        // Both are set by schedinit, of one clock; `lastpoll` is 0 while a thread is blocked in the poll.
        let apart = match lastpoll {
            0 => 0,
            polled => polled.abs_diff(resized),
        };
        for (what, n, most) in [
            ("mnext", mnext, ABSURD_COUNT),
            ("goidgen", goidgen, ABSURD_COUNT),
            ("procresizetime", resized, latest),
            ("lastpoll", lastpoll, latest),
            ("the time between procresizetime and lastpoll", apart, ABSURD_NS),
        ] {
            if n > most || (n == 0 && what == "mnext") {
                return wrong(format!("{what} is {n}"));
            }
        }
        Ok(())
    }

    /// `allgs`: goroutines with distinct ids, each on its own stack.
    pub(super) fn allgs(&self, address: u64) -> Result<(), Doubt> {
        let allgs = self.slice(address, MAX_GOROUTINES)?;
        let mut goids = BTreeSet::new();
        for step in 0..allgs.len.min(GOROUTINES) {
            // The first ones are the runtime's own; the others are spread over the rest.
            let few = step < GOROUTINES / 2 || allgs.len <= GOROUTINES;
            let index = if few { step } else { allgs.len * step / GOROUTINES };
            let address = self.element(&allgs, index)?;
            let (goid, m) = self.g(address)?;
            // Up to Go 1.23 a new goroutine is Runnable for an instant before it has its id.
            if goid != 0 && !goids.insert(goid) {
                return wrong(format!("two goroutines have the id {goid}"));
            }
            if m != 0 {
                self.m(m)?;
            }
        }
        // At least the runtime's own goroutines never end.
        if goids.is_empty() {
            return wrong("none of its goroutines has an id");
        }
        Ok(())
    }

    /// Checks a g, and returns its id (0 if it has none now) and its M or 0.
    fn g(&self, address: u64) -> Result<(u64, u64), Doubt> {
        let layout = &self.layout()?.g;
        if !pointer(address) {
            return wrong(format!("a goroutine is at {address:#x}"));
        }
        let g = self.read(address, layout.size)?;
        let status = g.half(layout.atomicstatus)? & !0x1000;
        let goid = g.word(layout.goid)?;
        if !matches!(status, 0..=4 | 6 | 8..=11) || goid > ABSURD_COUNT {
            return wrong(format!(
                "the goroutine at {address:#x} has status {status} and id {goid}"
            ));
        }
        // Idle, dead and extra goroutines have stale ids and perhaps no stack.
        if matches!(status, 0 | 6 | 10 | 11) {
            return Ok((0, 0));
        }
        let (lo, hi) = (g.word(layout.stack_lo)?, g.word(layout.stack_hi)?);
        if lo == 0 || hi <= lo || hi - lo > 1 << 40 {
            return wrong(format!("goroutine {goid} has a stack from {lo:#x} to {hi:#x}"));
        }
        Ok((goid, g.word(layout.m)?))
    }

    /// Checks an M, which must be that of its g0. Returns its id, and the goroutine that it runs or 0.
    fn m(&self, address: u64) -> Result<(u64, u64), Doubt> {
        let layout = self.layout()?;
        if !pointer(address) {
            return wrong(format!("an M is at {address:#x}"));
        }
        let g0 = self.word(address, layout.m.g0)?;
        if !pointer(g0) || self.word(g0, layout.g.m)? != address {
            return wrong(format!("the M at {address:#x} is not that of its g0"));
        }
        let id = self.word(address, layout.m.id)?;
        if id > ABSURD_COUNT {
            return wrong(format!("the M at {address:#x} has id {id}"));
        }
        Ok((id, self.word(address, layout.m.curg)?))
    }

    /// `allm`: a list of as many Ms as `mcount` of proc.go counts, each that of its g0, each running a
    /// goroutine or none.
    ///
    /// There is one more if the goroutine ended that was locked to the first thread: m0 is never removed, but `mexit`
    /// counts it as freed, and parks it without a P for good.
    pub(super) fn allm(&self, address: u64, sched: Option<u64>) -> Result<(), Doubt> {
        let layout = self.layout()?;
        let mut m = self.word(address, 0)?;
        if m == 0 {
            return Err(Doubt::Unset);
        }
        let mut ids = BTreeSet::new();
        let mut m0_may_be_freed = false;
        while m != 0 && ids.len() < THREADS {
            let (id, curg) = self.m(m)?;
            if !ids.insert(id) {
                return wrong(format!("two Ms have the id {id}"));
            }
            if curg != 0 {
                self.g(curg)?;
            } else if id == 0 {
                m0_may_be_freed = self.word(m, layout.m.p)? == 0;
            }
            m = self.word(m, layout.m.alllink)?;
        }
        let Some(sched) = sched else { return Ok(()) };
        let sched = self.read(sched, layout.sched.size)?;
        let (ever, freed) = (sched.word(layout.sched.mnext)?, sched.word(layout.sched.nmfreed)?);
        match (ever.checked_sub(freed), ids.len()) {
            (Some(live), seen)
                if m == 0
                    && live != seen as u64
                    && !(m0_may_be_freed && freed > 0 && live.saturating_add(1) == seen as u64) =>
            {
                wrong(format!("it has {seen} Ms, but sched counts {live}"))
            }
            _ => Ok(()),
        }
    }

    /// Reads the buckets of `sched.timeToRun`.
    pub(super) fn counts(&self, address: u64) -> Result<Vec<u64>, Doubt> {
        let layout = &self.layout()?.time_histogram;
        let mut counts = vec![0; layout.buckets.min(4096) as usize];
        self.memory
            .read_u64s(address.wrapping_add(u64::from(layout.counts)), &mut counts)?;
        Ok(counts)
    }

    /// `sched.timeToRun`: in `sched`, and its buckets only grow.
    pub(super) fn time_to_run(
        &self,
        address: u64,
        sched: Option<u64>,
        before: Option<&Result<Vec<u64>, Doubt>>,
    ) -> Result<(), Doubt> {
        let offset = u64::from(self.layout()?.sched.time_to_run);
        if let Some(sched) = sched.filter(|s| s.wrapping_add(offset) != address) {
            return wrong(format!(
                "it is at {address:#x}, but sched is at {sched:#x}, {offset} bytes before it"
            ));
        }
        let counts = self.counts(address)?;
        if let Some(absurd) = counts.iter().find(|count| **count > ABSURD_COUNT) {
            return wrong(format!("a bucket has {absurd} entries"));
        }
        if let Some(Ok(before)) = before
            && before.iter().zip(&counts).any(|(before, now)| now < before)
        {
            return wrong("a bucket has lost entries");
        }
        Ok(())
    }
}

/// Whether a word can be the address of a struct: aligned, and in user space.
fn pointer(word: u64) -> bool {
    (4096..1 << 56).contains(&word) && word.is_multiple_of(8)
}
