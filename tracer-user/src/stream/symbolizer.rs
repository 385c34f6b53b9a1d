//! Names for addresses of the traced process.

use std::collections::BTreeMap;

use crate::binary::Frame;
use crate::escape::Untrusted;

/// Looks up functions by address: in the file of a running program, or in what a recording says of it.
pub trait Symbolizer {
    /// Returns the function that holds the `go` statement whose `g.gopc` this is, as the binary names it; `None`
    /// where the address lies in no function.
    fn function_at(&self, gopc: u64) -> Option<Untrusted>;

    /// Announces the addresses that [`Self::function_at`] will be called with, so that they are looked up together: to
    /// be called before many names are shown.
    fn prepare(&self, _gopcs: &[u64]) {}

    /// Returns a number that changes when more of the target's code becomes known: addresses without a name may have one
    /// from then on.
    fn revision(&self) -> u64 {
        0
    }

    /// Returns the functions that each of these return addresses lies in, by address: innermost first, including those
    /// that were inlined there; an empty list for a function that the compiler made. Code that is not Go's is left out.
    fn frames(&self, _pcs: &[u64]) -> BTreeMap<u64, Vec<Frame>> {
        BTreeMap::new()
    }
}

/// A symbolizer without names: for captures of starts, whose marks contain their names.
#[derive(Clone, Copy, Debug)]
pub struct NoNames;

impl Symbolizer for NoNames {
    fn function_at(&self, _gopc: u64) -> Option<Untrusted> {
        None
    }
}
