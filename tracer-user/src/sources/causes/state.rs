//! Reads the scheduler's state from a target's memory: of every P what it does and what it has queued, and who holds it.

use crate::binary::Globals;
use crate::binary::layout::Layout;
use crate::process::memory::{Memory, ReadError};
use crate::stream::transition::status;

/// Most Ps that are read, as in the gauges.
const MAX_PS: u64 = 1 << 13;

/// `_Pidle`.
const P_IDLE: u32 = 0;
/// `_Prunning`.
const P_RUNNING: u32 = 1;
/// `_Psyscall`; from Go 1.26 on no P is in it.
const P_SYSCALL: u32 = 2;

/// What was read of the scheduler at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Goroutines in all run queues.
    pub runnable: u64,
    /// `sched.gcwaiting`: the world is being stopped, or is.
    pub stopping: bool,
    /// `sched.npidle`: Ps in the list of idle ones.
    pub listed_idle: u32,
    /// `sched.nmspinning`.
    pub spinning: u32,
    /// Every P of `allp`.
    pub ps: Vec<P>,
}

/// A P.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct P {
    /// Its address.
    pub p: u64,
    /// Its status.
    pub status: u32,
    /// Address of its m, or 0.
    pub m: u64,
    /// `p.schedtick`.
    pub schedtick: u32,
    /// Whether a worker of the collector runs on it (`p.gcMarkWorkerMode`).
    pub marks: bool,
}

/// An M that holds a P, and what it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// The id of its thread, in the target's PID namespace.
    pub thread: u64,
    /// The status of the goroutine that it runs, without the scan bit; `None` where it runs none.
    pub goroutine: Option<u8>,
    /// Whether its P does the collector's work.
    pub marks: bool,
}

impl State {
    /// Ps without an M, whether in the list of idle ones or promised to an M that is on its way.
    pub(super) fn idle(&self) -> usize {
        self.ps.iter().filter(|p| p.status == P_IDLE).count()
    }

    /// Ps that belong to a thread in a system call (up to Go 1.25).
    pub(super) fn in_syscall(&self) -> usize {
        self.ps.iter().filter(|p| p.status == P_SYSCALL).count()
    }

    /// Ps that an M holds.
    pub(super) fn held(&self) -> impl Iterator<Item = &P> {
        self.ps.iter().filter(|p| p.status == P_RUNNING && p.m != 0)
    }
}

/// A range of a struct: from this offset on.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u32,
    length: usize,
}

impl Span {
    /// The range of these fields, each of at most 8 bytes.
    fn of(fields: &[u32]) -> Self {
        let from = fields.iter().copied().min().unwrap_or(0);
        let last = fields.iter().copied().max().unwrap_or(0);
        Self {
            from,
            length: (last - from) as usize + 8,
        }
    }

    fn at(self, address: u64) -> u64 {
        address.wrapping_add(u64::from(self.from))
    }

    /// The 8 bytes of a field in what was read of this range, or 0 past its end.
    fn word(self, bytes: &[u8], field: u32) -> u64 {
        let at = field.checked_sub(self.from);
        at.and_then(|at| bytes.get(at as usize..)?.first_chunk())
            .map_or(0, |word| u64::from_ne_bytes(*word))
    }

    /// The lower half of it: all machines are little-endian.
    fn half(self, bytes: &[u8], field: u32) -> u32 {
        self.word(bytes, field) as u32
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
    of_p: Span,
    of_queue: Span,
    of_sched: Span,
    of_m: Span,
    of_g: Span,
    /// The slice `allp` when its elements were read.
    slice: [u64; 2],
    ps: Vec<u64>,
    addresses: Vec<u64>,
    bytes: Vec<u8>,
}

impl<M: Memory> StateReader<M> {
    /// A reader; `globals` are link-time addresses. `None` where one of them is not known.
    pub(super) fn new(memory: M, globals: &Globals, bias: u64, layout: &Layout) -> Option<Self> {
        let (p, sched, m, g) = (&layout.p, &layout.sched, &layout.m, &layout.g);
        Some(Self {
            memory,
            sched: globals.sched?.wrapping_add(bias),
            allp: globals.allp?.wrapping_add(bias),
            of_p: Span::of(&[p.status, p.schedtick, p.m]),
            of_queue: Span::of(&[p.runqhead, p.runqtail]),
            of_sched: Span::of(&[sched.npidle, sched.nmspinning, sched.runqsize, sched.gcwaiting]),
            of_m: Span::of(&[m.procid, m.curg, m.p]),
            of_g: Span::of(&[g.atomicstatus]),
            layout: layout.clone(),
            slice: [0; 2],
            ps: Vec::new(),
            addresses: Vec::new(),
            bytes: Vec::new(),
        })
    }

    /// Reads the state, with the queues between two readings of what the Ps do. `None` if a P changed its state
    /// meanwhile, or what lies there is not a scheduler.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn read(&mut self) -> Result<Option<State>, ReadError> {
        if !self.find_ps()? {
            return Ok(None);
        }
        let (p, sched) = (&self.layout.p, &self.layout.sched);
        let at = |offset: u32| move |p: &u64| p.wrapping_add(u64::from(offset));
        let states = || self.ps.iter().map(at(self.of_p.from));
        self.addresses.clear();
        self.addresses.extend(states());
        // One length for all, so that they are one call: what is read of `sched` is longer, and cut into pieces.
        let each = self.of_p.length.max(self.of_queue.length);
        let sched_at = self.of_sched.at(self.sched);
        let pieces = self.of_sched.length.div_ceil(each);
        let piece_at = |n: usize| sched_at.wrapping_add((n * each) as u64);
        self.addresses.extend((0..pieces).map(piece_at));
        self.addresses.extend(self.ps.iter().map(at(self.of_queue.from)));
        self.addresses.extend(self.ps.iter().map(at(p.runnext)));
        self.addresses
            .extend(self.ps.iter().map(at(p.gc_mark_worker_mode)));
        self.addresses.extend(states());
        self.bytes.resize(self.addresses.len() * each, 0);
        let read = self.memory.read_each(&self.addresses, each, &mut self.bytes);
        if let Err(e) = read {
            // The Ps may be others than those whose addresses are known.
            self.slice = [0; 2];
            return Err(e);
        }
        let mut ranges = self.bytes.chunks_exact(each);
        let mut next = |many: usize| -> Vec<&[u8]> { ranges.by_ref().take(many).collect() };
        let many = self.ps.len();
        let (before, counts) = (next(many), next(pieces).concat());
        let (queues, nexts, modes, after) = (next(many), next(many), next(many), next(many));
        let half = |field: u32| self.of_sched.half(&counts, field);
        // Each is an int32 that is never negative; the runtime may be in the middle of a change.
        let count = |field: u32| half(field).cast_signed().max(0).cast_unsigned();
        let mut state = State {
            runnable: u64::from(count(sched.runqsize)),
            stopping: half(sched.gcwaiting) as u8 != 0,
            listed_idle: count(sched.npidle),
            spinning: count(sched.nmspinning),
            ps: Vec::with_capacity(many),
        };
        let ranges = before
            .iter()
            .zip(&after)
            .zip(&queues)
            .zip(nexts.iter().zip(&modes));
        for ((((before, after), queue), (next, mode)), p) in ranges.zip(&self.ps) {
            let seen = self.p(*p, before, mode);
            let now = self.p(*p, after, mode);
            if (seen.status, seen.m) != (now.status, now.m) {
                return Ok(None);
            }
            let head = self.of_queue.half(queue, self.layout.p.runqhead);
            let tail = self.of_queue.half(queue, self.layout.p.runqtail);
            // The queue's indexes wrap. A P that runs moves both, and the head may have passed the tail.
            let length = tail.wrapping_sub(head).cast_signed().max(0).cast_unsigned();
            let has_next = word(next) != 0;
            state.runnable += u64::from(length.min(self.layout.p.runq_len)) + u64::from(has_next);
            state.ps.push(now);
        }
        Ok(Some(state))
    }

    fn p(&self, p: u64, bytes: &[u8], mode: &[u8]) -> P {
        let layout = &self.layout.p;
        P {
            p,
            status: self.of_p.half(bytes, layout.status),
            m: self.of_p.word(bytes, layout.m),
            schedtick: self.of_p.half(bytes, layout.schedtick),
            marks: word(mode) != 0,
        }
    }

    /// Reads the addresses of the Ps, where that was not done before or the slice was changed. Returns whether there
    /// are any, and all are there: `procresize` publishes the slice before its last elements.
    fn find_ps(&mut self) -> Result<bool, ReadError> {
        let mut slice = [0; 2];
        self.memory.read_u64s(self.allp, &mut slice)?;
        let [pointer, length] = slice;
        if length == 0 || length > MAX_PS {
            return Ok(false);
        }
        if slice != self.slice {
            self.slice = [0; 2];
            self.ps.resize(usize::try_from(length).unwrap_or(0), 0);
            self.memory.read_u64s(pointer, &mut self.ps)?;
            if self.ps.contains(&0) {
                return Ok(false);
            }
            self.slice = slice;
        }
        Ok(true)
    }

    /// Reads who holds these Ps; `None` in place of an M that has given up its P meanwhile.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn holders(&self, ps: &[P]) -> Result<Vec<Option<Holder>>, ReadError> {
        let (m, g) = (&self.layout.m, &self.layout.g);
        let machines: Vec<u64> = ps.iter().map(|p| self.of_m.at(p.m)).collect();
        let read = self.each(&machines, self.of_m.length)?;
        let machines: Vec<(u64, u64, u64)> = read
            .chunks_exact(self.of_m.length)
            .map(|bytes| {
                let word = |field: u32| self.of_m.word(bytes, field);
                (word(m.procid), word(m.curg), word(m.p))
            })
            .collect();
        let running = machines.iter().map(|(_, curg, _)| *curg).filter(|g| *g != 0);
        let running: Vec<u64> = running.map(|address| self.of_g.at(address)).collect();
        let read = self.each(&running, self.of_g.length)?;
        let mut statuses = read
            .chunks_exact(self.of_g.length)
            .map(|bytes| (self.of_g.half(bytes, g.atomicstatus) & !status::SCAN) as u8);
        let holders = ps.iter().zip(machines).map(|(p, (thread, curg, its_p))| {
            let goroutine = (curg != 0).then(|| statuses.next()).flatten();
            (its_p == p.p && thread != 0).then_some(Holder {
                thread,
                goroutine,
                marks: p.marks,
            })
        });
        Ok(holders.collect())
    }

    fn each(&self, addresses: &[u64], each: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; addresses.len() * each];
        self.memory.read_each(addresses, each, &mut bytes)?;
        Ok(bytes)
    }
}

/// The first 8 bytes.
fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word))
}
