//! Transitions in columns: a million a second must cost few bytes each, and no two columns are alike.
//!
//! Of a run of transitions first come the four small numbers of each as an index into those that the run has had so
//! far, then all times, all subjects, all details and all threads. Pointers and threads are told once a run, and by
//! their index afterwards; times and details as differences. What is then still the same over and over is left to the
//! compression of the block.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::wire::{Bytes, Read, Trouble, put, put_difference};
use crate::stream::transition::Transition;

/// Most transitions of one record.
pub const RUN: usize = 8_192;
/// Fewest bytes that one takes: one in each column.
const FEWEST: usize = 5;

/// Appends a run of at most [`RUN`] transitions.
pub fn encode(out: &mut Vec<u8>, base_ns: u64, run: &[Transition]) {
    put(out, run.len() as u64);
    let mut kinds = Told::default();
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
    let mut subjects = Told::default();
    for transition in run {
        subjects.put(out, transition.subject);
    }
    // What a detail is depends on the kind: it is near the last one of its own.
    let mut last = Last::default();
    for (transition, kind) in run.iter().zip(&of_kind) {
        put_difference(out, transition.detail, last.of(*kind, transition.detail));
    }
    let mut threads = Told::default();
    for transition in run {
        threads.put(out, u64::from(transition.tid));
    }
}

/// What [`encode`] wrote.
///
/// # Errors
/// It is something else.
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
        let kind = kinds.get(index).ok_or(UNTOLD)?;
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
        transition.subject = take_told(bytes, &mut subjects)?;
    }
    let mut last = Last::default();
    for (transition, kind) in run.iter_mut().zip(&of_kind) {
        transition.detail = bytes.difference(last.of(*kind, 0))?;
        last.of(*kind, transition.detail);
    }
    let mut threads = Vec::new();
    for transition in &mut run {
        let thread = take_told(bytes, &mut threads)?;
        transition.tid =
            u32::try_from(thread).map_err(|_| Trouble::Malformed("a thread's id is too large"))?;
    }
    Ok(run)
}

const UNTOLD: Trouble = Trouble::Malformed("an index is past what was told");

/// Values that were told in this run, with their indexes.
#[derive(Debug, Default)]
struct Told {
    indexes: HashMap<u64, u64, BuildHasherDefault<Quick>>,
    last: u64,
}

/// A hash of one number in one multiplication: three for each transition, a million times a second.
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
        // The golden ratio; the table takes the upper bits for one thing and the lower for another.
        let mixed = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

impl Told {
    /// Its index, and whether it was not told before.
    fn index(&mut self, value: u64) -> (u64, bool) {
        let next = self.indexes.len() as u64;
        let index = *self.indexes.entry(value).or_insert(next);
        (index, index == next)
    }

    /// Appends 0 and the difference to the last new one, or its index plus one.
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

/// What [`Told::put`] wrote.
fn take_told(bytes: &mut Bytes, told: &mut Vec<u64>) -> Read<u64> {
    let index: usize = bytes.small()?;
    match index.checked_sub(1) {
        Some(index) => told.get(index).copied().ok_or(UNTOLD),
        None => {
            let value = bytes.difference(told.last().copied().unwrap_or(0))?;
            told.push(value);
            Ok(value)
        }
    }
}

/// The last detail of each kind.
#[derive(Debug, Default)]
struct Last(Vec<u64>);

impl Last {
    /// The last one; from now on it is another.
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
