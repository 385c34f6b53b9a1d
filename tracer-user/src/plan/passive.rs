//! What `passive` needs: no site, but the address and the shape of the runtime's own histogram.

use super::Attempt;
use crate::binary::{Globals, layout::Layout};

/// Minor versions of Go whose `runtime.timeHistogram` is known without a layout (histogram.go).
const KNOWN_SHAPES: [std::ops::RangeInclusive<u32>; 2] = [19..=19, 21..=27];

/// Whether the histogram of waits can be read from memory.
///
/// # Errors
/// What was not found.
pub fn passive(globals: &Globals, layout: Option<&Layout>, go_minor: u32) -> Result<(), Vec<Attempt>> {
    let fail = |what: &str, outcome: String| {
        vec![Attempt {
            what: what.to_owned(),
            outcome,
        }]
    };
    if globals.time_to_run.is_none() && (globals.sched.is_none() || layout.is_none()) {
        return Err(fail(
            "the address of runtime.sched.timeToRun",
            "no code that uses it could be read, so that it is not known where the runtime keeps its waits"
                .to_owned(),
        ));
    }
    if layout.is_none() && !KNOWN_SHAPES.iter().any(|minors| minors.contains(&go_minor)) {
        return Err(fail(
            "the shape of runtime.timeHistogram",
            format!("go1.{go_minor} has no known layout, and its buckets may be others than those known"),
        ));
    }
    Ok(())
}
