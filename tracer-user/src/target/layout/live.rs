//! Whether a layout and the addresses of variables fit a live process. Code tells where a variable should be,
//! a table where its fields should be; here the memory itself is asked, before anything is made of it.
//!
//! What is checked are relations that hold in every version (Go 1.19 to 1.27, `proc.go` and `runtime2.go`)
//! and that other bytes would hardly fulfil: `allp[i].id == i`, `m.g0.m == m` along the whole of `allm`, as
//! many Ms as `sched` counts, distinct goroutine ids, stacks whose ends are in order. The process runs on
//! meanwhile, so what does not hold is looked at again before it counts.

use std::collections::BTreeSet;

use super::Layout;
use crate::memory::{Memory, ReadError};
use crate::target::Globals;

/// How often a relation may fail while the process changes it.
const ATTEMPTS: usize = 4;
/// More Ps or goroutines than this are taken for other bytes.
const MAX_PROCS: u64 = 1 << 20;
const MAX_GOROUTINES: u64 = 1 << 28;
/// How many goroutines, Ps and Ms are looked at.
const GOROUTINES: u64 = 16;
const PROCS: u64 = 64;
const THREADS: usize = 512;
/// No nanosecond clock and no count of events is beyond: 36 years, 7 × 10^16 events.
const ABSURD_NS: u64 = 1 << 60;
const ABSURD_COUNT: u64 = 1 << 56;

/// What the process's memory says about one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What is there is what should be there.
    Confirmed,
    /// It is not: what was found instead.
    Refuted(String),
    /// All zero: the runtime has not come so far yet.
    Unset,
    /// Nothing could be said: there is no address, no layout, or the memory cannot be read.
    Unchecked(String),
}

/// The verdicts on all variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveCheck {
    /// `runtime.sched`, and the layout of `schedt`.
    pub sched: Verdict,
    /// `runtime.sched.timeToRun`.
    pub time_to_run: Verdict,
    /// `runtime.allp`, and the layout of `p`.
    pub allp: Verdict,
    /// `runtime.allgs`, and the layout of `g`.
    pub allgs: Verdict,
    /// `runtime.allm`, and the layout of `m`.
    pub allm: Verdict,
    /// `runtime.gomaxprocs`.
    pub gomaxprocs: Verdict,
}

impl LiveCheck {
    /// The variables by name, in the order of the struct.
    pub fn verdicts(&self) -> [(&'static str, &Verdict); 6] {
        [
            ("sched", &self.sched),
            ("sched.timeToRun", &self.time_to_run),
            ("allp", &self.allp),
            ("allgs", &self.allgs),
            ("allm", &self.allm),
            ("gomaxprocs", &self.gomaxprocs),
        ]
    }

    /// What can be believed: `globals` without those that were refuted.
    pub fn believed(&self, globals: &Globals) -> Globals {
        let keep = |address: Option<u64>, verdict: &Verdict| match verdict {
            Verdict::Refuted(_) => None,
            _ => address,
        };
        Globals {
            sched: keep(globals.sched, &self.sched),
            time_to_run: keep(globals.time_to_run, &self.time_to_run),
            allp: keep(globals.allp, &self.allp),
            allgs: keep(globals.allgs, &self.allgs),
            allm: keep(globals.allm, &self.allm),
            gomaxprocs: keep(globals.gomaxprocs, &self.gomaxprocs),
        }
    }

    /// That every struct of the layout was seen in memory and fits: enough to believe a layout that is not
    /// known to be that of the release.
    pub fn confirms_layout(&self) -> bool {
        self.verdicts()
            .iter()
            .all(|(_, verdict)| **verdict == Verdict::Confirmed)
    }
}

/// Looks at a process's memory. `globals` are link-time addresses; `bias` is added to each.
pub fn check_live(memory: &impl Memory, globals: &Globals, bias: u64, layout: Option<&Layout>) -> LiveCheck {
    let at = |address: Option<u64>| address.map(|a| a.wrapping_add(bias));
    let process = Process { memory, layout };
    let (sched, allp, gomaxprocs) = (at(globals.sched), at(globals.allp), at(globals.gomaxprocs));
    // Counts are read before everything else and again after it: they only grow.
    let before = at(globals.time_to_run).map(|a| process.counts(a));
    let check = LiveCheck {
        gomaxprocs: judge(gomaxprocs, |a| process.gomaxprocs(a, allp)),
        allp: judge(allp, |a| process.allp(a)),
        sched: judge(sched, |a| process.sched(a, allp)),
        allgs: judge(at(globals.allgs), |a| process.allgs(a)),
        allm: judge(at(globals.allm), |a| process.allm(a, sched)),
        time_to_run: Verdict::Unset,
    };
    let time_to_run = judge(at(globals.time_to_run), |a| {
        process.time_to_run(a, sched, before.as_ref())
    });
    LiveCheck { time_to_run, ..check }
}

/// Why a look at a variable did not confirm it.
enum Doubt {
    /// What is there is something else, perhaps only for a moment.
    Wrong(String),
    /// All zero.
    Unset,
    /// It cannot be looked at.
    Blind(String),
}

impl From<ReadError> for Doubt {
    fn from(e: ReadError) -> Self {
        match e {
            // A wrong address leads to a hole, or a wrong offset to a pointer into one.
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

fn judge(address: Option<u64>, look: impl Fn(u64) -> Result<(), Doubt>) -> Verdict {
    let Some(address) = address else {
        return Verdict::Unchecked("its address is not known".into());
    };
    let mut found = String::new();
    for _ in 0..ATTEMPTS {
        match look(address) {
            Ok(()) => return Verdict::Confirmed,
            Err(Doubt::Unset) => return Verdict::Unset,
            Err(Doubt::Blind(why)) => return Verdict::Unchecked(why),
            Err(Doubt::Wrong(what)) => found = what,
        }
    }
    Verdict::Refuted(found)
}

struct Process<'a, M> {
    memory: &'a M,
    layout: Option<&'a Layout>,
}

/// A slice's header; never empty.
struct Slice {
    first: u64,
    len: u64,
}

impl<M: Memory> Process<'_, M> {
    fn layout(&self) -> Result<&Layout, Doubt> {
        self.layout
            .ok_or_else(|| Doubt::Blind("the layout of the runtime's structs is not known".into()))
    }

    fn word(&self, base: u64, offset: u32) -> Result<u64, Doubt> {
        Ok(self.memory.read_u64(base.wrapping_add(u64::from(offset)))?)
    }

    fn half(&self, base: u64, offset: u32) -> Result<u32, Doubt> {
        Ok(self.memory.read_u32(base.wrapping_add(u64::from(offset)))?)
    }

    fn slice(&self, address: u64, most: u64) -> Result<Slice, Doubt> {
        let mut header = [0; 3];
        self.memory.read_u64s(address, &mut header)?;
        match header {
            [0, 0, 0] => Err(Doubt::Unset),
            [first, len, cap]
                if pointer(first) && (1..=most).contains(&len) && len <= cap && cap <= 2 * most =>
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

    fn gomaxprocs(&self, address: u64, allp: Option<u64>) -> Result<(), Doubt> {
        let n = u64::from(self.half(address, 0)?);
        if n == 0 {
            return Err(Doubt::Unset);
        }
        if n > MAX_PROCS {
            return wrong(format!("it is {n}"));
        }
        // procresize sets both while the world is stopped.
        match allp.map(|a| self.slice(a, MAX_PROCS)) {
            Some(Ok(allp)) if allp.len != n => wrong(format!("it is {n}, but allp has {}", allp.len)),
            _ => Ok(()),
        }
    }

    fn allp(&self, address: u64) -> Result<(), Doubt> {
        let allp = self.slice(address, MAX_PROCS)?;
        let layout = &self.layout()?.p;
        for index in 0..allp.len.min(PROCS) {
            let p = self.element(&allp, index)?;
            if !pointer(p) {
                return wrong(format!("allp[{index}] is {p:#x}"));
            }
            let (id, status) = (self.half(p, layout.id)?, self.half(p, layout.status)?);
            if u64::from(id) != index || status > 4 {
                return wrong(format!("allp[{index}] has id {id} and status {status}"));
            }
            let queued = self
                .half(p, layout.runqtail)?
                .wrapping_sub(self.half(p, layout.runqhead)?);
            if queued > layout.runq_len {
                return wrong(format!("allp[{index}] has {queued} goroutines queued"));
            }
            let m = self.word(p, layout.m)?;
            if m != 0 && !pointer(m) {
                return wrong(format!("allp[{index}].m is {m:#x}"));
            }
        }
        Ok(())
    }

    fn sched(&self, address: u64, allp: Option<u64>) -> Result<(), Doubt> {
        let layout = &self.layout()?.sched;
        let procs = match allp.map(|a| self.slice(a, MAX_PROCS)) {
            Some(Ok(allp)) => allp.len,
            _ => MAX_PROCS,
        };
        let (maxmcount, mnext) = (
            self.half(address, layout.maxmcount)?,
            self.word(address, layout.mnext)?,
        );
        let (resized, goidgen) = (
            self.word(address, layout.procresizetime)?,
            self.word(address, layout.goidgen)?,
        );
        if [u64::from(maxmcount), mnext, resized, goidgen] == [0; 4] {
            return Err(Doubt::Unset);
        }
        let most = |what: &str, offset: u32, limit: u64| -> Result<(), Doubt> {
            match u64::from(self.half(address, offset)?) {
                n if n > limit => wrong(format!("{what} is {n}, more than {limit}")),
                _ => Ok(()),
            }
        };
        most("maxmcount", layout.maxmcount, i32::MAX as u64)?;
        most("npidle", layout.npidle, procs)?;
        most("nmspinning", layout.nmspinning, procs)?;
        most("nmidle", layout.nmidle, mnext)?;
        most("ngsys", layout.ngsys, MAX_GOROUTINES)?;
        most("runqsize", layout.runqsize, MAX_GOROUTINES)?;
        most("gcwaiting", layout.gcwaiting, 1)?;
        most("sysmonwait", layout.sysmonwait, 1)?;
        for (what, n, limit) in [
            ("mnext", mnext, ABSURD_COUNT),
            ("goidgen", goidgen, ABSURD_COUNT),
            ("procresizetime", resized, ABSURD_NS),
        ] {
            if n == 0 || n > limit {
                return wrong(format!("{what} is {n}"));
            }
        }
        match self.word(address, layout.lastpoll)? {
            t if t > ABSURD_NS => wrong(format!("lastpoll is {t}")),
            _ => Ok(()),
        }
    }

    fn allgs(&self, address: u64) -> Result<(), Doubt> {
        let allgs = self.slice(address, MAX_GOROUTINES)?;
        let (layout, m_curg) = (&self.layout()?.g, self.layout()?.m.curg);
        let mut goids = BTreeSet::new();
        for step in 0..allgs.len.min(GOROUTINES) {
            // The first ones are the runtime's own, the others are spread.
            let index = if step < GOROUTINES / 2 || allgs.len <= GOROUTINES {
                step
            } else {
                allgs.len * step / GOROUTINES
            };
            let g = self.element(&allgs, index)?;
            if !pointer(g) {
                return wrong(format!("allgs[{index}] is {g:#x}"));
            }
            let status = self.half(g, layout.atomicstatus)? & !0x1000;
            let goid = self.word(g, layout.goid)?;
            if !matches!(status, 0..=4 | 6 | 8..=11) || goid > ABSURD_COUNT {
                return wrong(format!("allgs[{index}] has status {status} and id {goid}"));
            }
            // Idle, dead and extra ones have stale ids and perhaps no stack.
            if matches!(status, 0 | 6 | 10 | 11) {
                continue;
            }
            if goid == 0 || !goids.insert(goid) {
                return wrong(format!("two goroutines have the id {goid}"));
            }
            let (lo, hi) = (self.word(g, layout.stack_lo)?, self.word(g, layout.stack_hi)?);
            if lo == 0 || hi <= lo || hi - lo > 1 << 40 {
                return wrong(format!("goroutine {goid} has a stack from {lo:#x} to {hi:#x}"));
            }
            let m = self.word(g, layout.m)?;
            if status == 2 && self.word(m, m_curg)? != g {
                return wrong(format!("goroutine {goid} runs on an M that runs another"));
            }
        }
        Ok(())
    }

    fn allm(&self, address: u64, sched: Option<u64>) -> Result<(), Doubt> {
        let layout = self.layout()?;
        let mut m = self.word(address, 0)?;
        if m == 0 {
            return Err(Doubt::Unset);
        }
        let mut ids = BTreeSet::new();
        while m != 0 && ids.len() < THREADS {
            let nth = ids.len();
            if !pointer(m) {
                return wrong(format!("the M after {nth} others is at {m:#x}"));
            }
            let g0 = self.word(m, layout.m.g0)?;
            if !pointer(g0) || self.word(g0, layout.g.m)? != m {
                return wrong(format!("the M after {nth} others is not that of its g0"));
            }
            let (id, curg) = (self.word(m, layout.m.id)?, self.word(m, layout.m.curg)?);
            if id > ABSURD_COUNT || !ids.insert(id) {
                return wrong(format!("two Ms have the id {id}"));
            }
            if curg != 0 && !pointer(curg) {
                return wrong(format!("the M with id {id} runs a goroutine at {curg:#x}"));
            }
            m = self.word(m, layout.m.alllink)?;
        }
        let Some(sched) = sched else { return Ok(()) };
        // As mcount does.
        let (ever, freed) = (
            self.word(sched, layout.sched.mnext)?,
            self.word(sched, layout.sched.nmfreed)?,
        );
        match (ever.checked_sub(freed), ids.len()) {
            (Some(live), seen) if m == 0 && live != seen as u64 => {
                wrong(format!("it has {seen} Ms, but sched counts {live}"))
            }
            _ => Ok(()),
        }
    }

    fn counts(&self, address: u64) -> Result<Vec<u64>, Doubt> {
        let layout = &self.layout()?.time_histogram;
        let mut counts = vec![0; layout.buckets.min(4096) as usize];
        self.memory
            .read_u64s(address.wrapping_add(u64::from(layout.counts)), &mut counts)?;
        Ok(counts)
    }

    fn time_to_run(
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

/// Whether a word can be the address of a struct: aligned, in the half that user space has.
fn pointer(word: u64) -> bool {
    (4096..1 << 56).contains(&word) && word.is_multiple_of(8)
}
