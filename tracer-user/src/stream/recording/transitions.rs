//! Encodes transitions in columns: there may be a million a second, so that each must take few bytes.
//!
//! A run of transitions begins with the four small numbers of each, as an index into those that the run has had so far;
//! all times follow, all subjects, all details and all threads. A pointer or a thread is written once per run, and
//! referred to by its index afterwards; times and details are differences. The compression of the block removes the
//! repetitions that are left.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::wire::{Bytes, Read, Trouble, put, put_difference};
use crate::stream::transition::Transition;

/// Most transitions of one record.
pub const RUN: usize = 8_192;
/// Fewest bytes of a transition: one in each column.
const FEWEST: usize = 5;

/// Appends a run of at most [`RUN`] transitions.
pub fn encode(out: &mut Vec<u8>, base_ns: u64, run: &[Transition]) {
    put(out, run.len() as u64);
    let mut kinds = Interned::default();
    let mut of_kind = Vec::with_capacity(run.len());
    for transition in run {
        let kind = [
            transition.what,
            transition.status,
            transition.reason,
            transition.flags,
        ];
        let (index, is_new) = kinds.index(u64::from(u32::from_le_bytes(kind)));
        put(out, index);
        if is_new {
            out.extend_from_slice(&kind);
        }
        of_kind.push(index);
    }
    let mut last = base_ns;
    for transition in run {
        put_difference(out, transition.at_ns, last);
        last = transition.at_ns;
    }
    let mut subjects = Interned::default();
    for transition in run {
        subjects.put(out, transition.subject);
    }
    // The meaning of a detail depends on the kind: it is near the last one of the same kind.
    let mut last = Last::default();
    for (transition, kind) in run.iter().zip(&of_kind) {
        put_difference(out, transition.detail, last.of(*kind, transition.detail));
    }
    let mut threads = Interned::default();
    for transition in run {
        threads.put(out, u64::from(transition.tid));
    }
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// The bytes are something else.
pub fn decode(bytes: &mut Bytes, base_ns: u64) -> Read<Vec<Transition>> {
    let length: usize = bytes.small()?;
    if length > RUN || length > bytes.len() / FEWEST {
        return Err(Trouble::Malformed("a run of transitions is too long"));
    }
    let mut run = vec![Transition::default(); length];
    let (mut kinds, mut of_kind) = (Vec::new(), Vec::with_capacity(length));
    for transition in &mut run {
        let index: usize = bytes.small()?;
        if index == kinds.len() {
            kinds.push([bytes.byte()?, bytes.byte()?, bytes.byte()?, bytes.byte()?]);
        }
        let kind = kinds.get(index).ok_or(UNKNOWN_INDEX)?;
        [
            transition.what,
            transition.status,
            transition.reason,
            transition.flags,
        ] = *kind;
        of_kind.push(index as u64);
    }
    let mut last = base_ns;
    for transition in &mut run {
        transition.at_ns = bytes.difference(last)?;
        last = transition.at_ns;
    }
    let mut subjects = Vec::new();
    for transition in &mut run {
        transition.subject = read_interned(bytes, &mut subjects)?;
    }
    let mut last = Last::default();
    for (transition, kind) in run.iter_mut().zip(&of_kind) {
        transition.detail = bytes.difference(last.of(*kind, 0))?;
        last.of(*kind, transition.detail);
    }
    let mut threads = Vec::new();
    for transition in &mut run {
        let thread = read_interned(bytes, &mut threads)?;
        transition.tid =
            u32::try_from(thread).map_err(|_| Trouble::Malformed("a thread's id is too large"))?;
    }
    Ok(run)
}

const UNKNOWN_INDEX: Trouble = Trouble::Malformed("an index is past the values so far");

/// The values of a column that this run has had so far, with their indexes.
#[derive(Debug, Default)]
struct Interned {
    indexes: HashMap<u64, u64, BuildHasherDefault<Quick>>,
    last: u64,
}

/// A hash of one number by one multiplication: it is computed three times for each of a million transitions a second.
#[derive(Debug, Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, n: u64) {
        // The golden ratio. The table uses both the upper and the lower bits, so that both must be mixed.
        let mixed = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

impl Interned {
    /// Returns the index of a value, and whether it is new.
    fn index(&mut self, value: u64) -> (u64, bool) {
        let next = self.indexes.len() as u64;
        let index = *self.indexes.entry(value).or_insert(next);
        (index, index == next)
    }

    /// Appends 0 and the difference to the last new value, or the value's index plus one.
    fn put(&mut self, out: &mut Vec<u8>, value: u64) {
        let (index, is_new) = self.index(value);
        if is_new {
            out.push(0);
            put_difference(out, value, self.last);
            self.last = value;
        } else {
            put(out, index + 1);
        }
    }
}

/// Reads what [`Interned::put`] wrote.
fn read_interned(bytes: &mut Bytes, known: &mut Vec<u64>) -> Read<u64> {
    let index: usize = bytes.small()?;
    match index.checked_sub(1) {
        Some(index) => known.get(index).copied().ok_or(UNKNOWN_INDEX),
        None => {
            let value = bytes.difference(known.last().copied().unwrap_or(0))?;
            known.push(value);
            Ok(value)
        }
    }
}

/// The last detail of each kind.
#[derive(Debug, Default)]
struct Last(Vec<u64>);

impl Last {
    /// Returns the last detail of a kind, and replaces it by `next`.
    fn of(&mut self, kind: u64, next: u64) -> u64 {
        let kind = kind as usize;
        if kind >= self.0.len() {
            self.0.resize(kind + 1, 0);
        }
        self.0
            .get_mut(kind)
            .map_or(0, |last| std::mem::replace(last, next))
    }
}
