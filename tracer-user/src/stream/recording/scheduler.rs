//! Encodes a reading of every goroutine, P and M. There may be millions, so that it is split into parts.
//!
//! An observation may itself be a part of a reading. An older gmpscope does not know that, and takes it for a whole one:
//! it is marked as cut short for those, so that they do not believe that all other goroutines have ended.

use super::wire::{Append, Bytes, Read, Trouble, put, put_difference, put_list};
use crate::stream::transition::{GoroutineSeen, MachineSeen, ProcessorSeen, ReadingPart, SchedSnapshot};

/// Most goroutines, most Ps and most Ms in one part.
const PART: usize = 2_048;
/// Most goroutines, most Ps and most Ms in one observation.
const MOST: usize = 1 << 24;

/// Flags of a part.
mod flag {
    pub const CUT_SHORT: u8 = 1;
    pub const LAST: u8 = 2;
    /// The observation is a part of a reading, which is described at the end.
    pub const OF_READING: u8 = 4;
    /// It is the last part.
    pub const ENDS_READING: u8 = 8;
    /// A part of a reading is not cut short itself.
    pub const PART_IS_WHOLE: u8 = 16;
    pub const SPINNING: u8 = 1;
    pub const BLOCKED: u8 = 2;
}

/// Splits a reading into parts: calls `part` for each with a function that appends it.
pub fn parts(snapshot: &SchedSnapshot, base_ns: u64, mut part: impl FnMut(Append<'_>)) {
    let mut goroutines = snapshot.goroutines.chunks(PART);
    let mut processors = snapshot.processors.chunks(PART);
    let mut machines = snapshot.machines.chunks(PART);
    let parts = [&goroutines.len(), &processors.len(), &machines.len()]
        .into_iter()
        .max()
        .map_or(1, |parts| *parts.max(&1));
    for n in 1..=parts {
        let goroutines = goroutines.next().unwrap_or_default();
        let processors = processors.next().unwrap_or_default();
        let machines = machines.next().unwrap_or_default();
        part(&mut |out| {
            let last = if n == parts { flag::LAST } else { 0 };
            out.push(flags_of(snapshot) | last);
            put_difference(out, snapshot.begin_ns, base_ns);
            put_difference(out, snapshot.end_ns, snapshot.begin_ns);
            put_goroutines(out, goroutines);
            put_processors(out, processors);
            put_machines(out, machines);
            if let Some(part) = snapshot.part {
                put_difference(out, part.begin_ns, snapshot.begin_ns);
                put(out, part.gs);
            }
        });
    }
}

fn flags_of(snapshot: &SchedSnapshot) -> u8 {
    match (snapshot.part, snapshot.cut_short) {
        (None, true) => flag::CUT_SHORT,
        (None, false) => 0,
        (Some(part), cut_short) => {
            let last = if part.is_last { flag::ENDS_READING } else { 0 };
            let whole = if cut_short { 0 } else { flag::PART_IS_WHOLE };
            flag::CUT_SHORT | flag::OF_READING | last | whole
        }
    }
}

/// Puts the parts of a reading together.
#[derive(Debug, Default)]
pub struct Parts(Option<SchedSnapshot>);

impl Parts {
    /// Adds a part. Returns the whole reading if it was the last one.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn take(&mut self, bytes: &mut Bytes, base_ns: u64) -> Read<Option<SchedSnapshot>> {
        let flags = bytes.byte()?;
        let begin_ns = bytes.difference(base_ns)?;
        let end_ns = bytes.difference(begin_ns)?;
        let whole = self.0.get_or_insert_default();
        (whole.begin_ns, whole.end_ns) = (begin_ns, end_ns);
        whole.cut_short = flags & flag::CUT_SHORT != 0 && flags & flag::PART_IS_WHOLE == 0;
        take_goroutines(bytes, &mut whole.goroutines)?;
        take_processors(bytes, &mut whole.processors)?;
        take_machines(bytes, &mut whole.machines)?;
        whole.part = if flags & flag::OF_READING != 0 {
            Some(ReadingPart {
                begin_ns: bytes.difference(begin_ns)?,
                gs: bytes.number()?,
                is_last: flags & flag::ENDS_READING != 0,
            })
        } else {
            None
        };
        let most = whole
            .goroutines
            .len()
            .max(whole.machines.len())
            .max(whole.processors.len());
        if most > MOST {
            return Err(Trouble::Malformed("a reading of the scheduler has no end"));
        }
        Ok(if flags & flag::LAST == 0 {
            None
        } else {
            self.0.take()
        })
    }
}

fn put_goroutines(out: &mut Vec<u8>, goroutines: &[GoroutineSeen]) {
    put_list(out, goroutines, |out, seen, last| {
        out.extend_from_slice(&[seen.status, seen.reason]);
        for (value, from) in [
            (seen.g, last.g),
            (seen.goid, last.goid),
            (seen.m, 0),
            (seen.gopc, last.gopc),
            (seen.startpc, last.startpc),
        ] {
            put_difference(out, value, from);
        }
    });
}

fn take_goroutines(bytes: &mut Bytes, goroutines: &mut Vec<GoroutineSeen>) -> Read<()> {
    let many = length(bytes)?;
    bytes.list(many, goroutines, |bytes, last| {
        Ok(GoroutineSeen {
            status: bytes.byte()?,
            reason: bytes.byte()?,
            g: bytes.difference(last.g)?,
            goid: bytes.difference(last.goid)?,
            m: bytes.difference(0)?,
            gopc: bytes.difference(last.gopc)?,
            startpc: bytes.difference(last.startpc)?,
        })
    })
}

fn put_processors(out: &mut Vec<u8>, processors: &[ProcessorSeen]) {
    put_list(out, processors, |out, seen, last| {
        out.push(seen.status);
        put_difference(out, seen.p, last.p);
        put(out, u64::from(seen.id));
        put(out, seen.m);
        put(out, u64::from(seen.queued));
    });
}

fn take_processors(bytes: &mut Bytes, processors: &mut Vec<ProcessorSeen>) -> Read<()> {
    let many = length(bytes)?;
    bytes.list(many, processors, |bytes, last| {
        Ok(ProcessorSeen {
            status: bytes.byte()?,
            p: bytes.difference(last.p)?,
            id: bytes.small()?,
            m: bytes.number()?,
            queued: bytes.small()?,
        })
    })
}

fn put_machines(out: &mut Vec<u8>, machines: &[MachineSeen]) {
    put_list(out, machines, |out, seen, last| {
        let spinning = if seen.spinning { flag::SPINNING } else { 0 };
        let blocked = if seen.blocked { flag::BLOCKED } else { 0 };
        out.push(spinning | blocked);
        put_difference(out, seen.m, last.m);
        put_difference(out, seen.id, last.id);
        put(out, u64::from(seen.tid));
        for pointer in [seen.curg, seen.p, seen.oldp] {
            put(out, pointer);
        }
    });
}

fn take_machines(bytes: &mut Bytes, machines: &mut Vec<MachineSeen>) -> Read<()> {
    let many = length(bytes)?;
    bytes.list(many, machines, |bytes, last| {
        let flags = bytes.byte()?;
        Ok(MachineSeen {
            m: bytes.difference(last.m)?,
            id: bytes.difference(last.id)?,
            tid: bytes.small()?,
            curg: bytes.number()?,
            p: bytes.number()?,
            oldp: bytes.number()?,
            spinning: flags & flag::SPINNING != 0,
            blocked: flags & flag::BLOCKED != 0,
        })
    })
}

fn length(bytes: &mut Bytes) -> Read<usize> {
    let length: usize = bytes.small()?;
    if length > PART {
        return Err(Trouble::Malformed(
            "a part of a reading of the scheduler is too long",
        ));
    }
    Ok(length)
}
