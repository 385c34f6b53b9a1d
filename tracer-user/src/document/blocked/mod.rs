//! Where goroutines blocked: the part of a capture by `full --stacks`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::binary::Frame;
use crate::document::named::Named;
use crate::escape::Untrusted;
use crate::model::sched::{Blocked, PlaceReport, StacksReport};
use crate::stream::transition::{StackSeen, end};

/// Most places that are listed one by one.
pub const PLACES: usize = 100;

/// Functions of the runtime that are in the stack of every goroutine that blocks.
const LEFT_OUT: [&str; 3] = ["runtime.gopark", "runtime.goparkunlock", "runtime.goexit"];

/// Goroutines that blocked with the same stack for the same reason and were created by the same statement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockedAt {
    /// The calls, innermost first, including inlined ones: `FUNCTION FILE:LINE`. `runtime.gopark` and `runtime.goexit`,
    /// which are in all stacks, are left out.
    pub stack: Vec<Untrusted>,
    /// Why calls are missing after the last one; absent if the stack is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<Incomplete>,
    /// The runtime's name of the reason why they waited.
    pub wait_reason: Untrusted,
    /// The `go` statement that created them: `FUNCTION FILE:LINE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Untrusted>,
    /// How many, and how long.
    #[serde(flatten)]
    pub waits: Waits,
}

/// Why a stack is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Incomplete {
    /// It has more calls than are kept.
    Cut,
    /// A frame pointer was wrong, or could not be read.
    Broken,
}

/// Number and length of waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// Waits that ended.
    pub count: u64,
    /// Waits that had not ended when the capture did.
    pub ongoing: u64,
    /// Total nanoseconds of both.
    pub total_ns: u64,
    /// Nanoseconds of the longest of both.
    pub max_ns: u64,
}

/// How complete the list of places is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StacksInfo {
    /// Times that the stack of a goroutine that blocked was walked.
    pub walked: u64,
    /// Different stacks that were kept.
    pub different: u64,
    /// Times that a stack was new and the table full.
    pub lost_full: u64,
    /// Times that a stack could not be read.
    pub lost_unreadable: u64,
    /// How many places `blocked_at` lists at most.
    pub shown_at_most: u64,
    /// Places that it leaves out: those with the least total time.
    pub other_places: u64,
    /// The waits at those places.
    pub other: Waits,
    /// Waits at unknown places: those that began before the capture, and those whose stack was lost.
    pub unknown: Waits,
}

impl Waits {
    /// Returns how many waits there were, including those that had not ended.
    pub fn all(&self) -> u64 {
        self.count.saturating_add(self.ongoing)
    }
}

impl From<Blocked> for Waits {
    fn from(blocked: Blocked) -> Self {
        Self {
            count: blocked.count,
            ongoing: blocked.ongoing,
            total_ns: blocked.total_ns,
            max_ns: blocked.max_ns,
        }
    }
}

/// Builds the list of places, and how complete it is, from the model's report; `lost` are the stacks that were lost.
pub fn build(report: &StacksReport, named: &Named<'_>, lost: &Lost) -> (Vec<BlockedAt>, StacksInfo) {
    let shown = report.places.get(..PLACES).unwrap_or(&report.places);
    let rest = report.places.get(shown.len()..).unwrap_or_default();
    let mut other = Blocked::default();
    rest.iter().for_each(|place| other.merge(&place.blocked));
    let pcs = shown
        .iter()
        .flat_map(|place| place.stack.pcs.iter().copied().chain([place.gopc]));
    let pcs: BTreeSet<u64> = pcs.filter(|pc| *pc != 0).collect();
    let names = Names {
        frames: named.symbolizer.frames(&pcs.into_iter().collect::<Vec<_>>()),
        named,
    };
    let info = StacksInfo {
        walked: report.walked,
        different: report.different,
        lost_full: lost.full,
        lost_unreadable: lost.unreadable,
        shown_at_most: PLACES as u64,
        other_places: rest.len() as u64,
        other: other.into(),
        unknown: report.elsewhere.into(),
    };
    (shown.iter().map(|place| names.place(place)).collect(), info)
}

/// Stacks that were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Stacks that the table had no room for.
    pub full: u64,
    /// Stacks that could not be read.
    pub unreadable: u64,
}

struct Names<'n> {
    frames: BTreeMap<u64, Vec<Frame>>,
    named: &'n Named<'n>,
}

impl Names<'_> {
    fn place(&self, place: &PlaceReport) -> BlockedAt {
        BlockedAt {
            stack: self.stack(&place.stack),
            incomplete: match place.stack.end {
                end::WHOLE => None,
                end::CUT => Some(Incomplete::Cut),
                _ => Some(Incomplete::Broken),
            },
            wait_reason: place.reason.as_str().into(),
            created_at: (place.gopc != 0).then(|| self.creation(place.gopc)),
            waits: place.blocked.into(),
        }
    }

    fn stack(&self, stack: &StackSeen) -> Vec<Untrusted> {
        let calls = stack.pcs.iter().flat_map(|pc| match self.frames.get(pc) {
            Some(frames) => frames
                .iter()
                .filter(|frame| !LEFT_OUT.contains(&frame.function.raw()))
                .map(Frame::whole)
                .collect(),
            // Not Go code.
            None => vec![format!("{pc:#x}").into()],
        });
        calls.collect()
    }

    /// Names a creation site: the function as everywhere else, with the line of the statement.
    fn creation(&self, gopc: u64) -> Untrusted {
        let function = self.named.creation_site(gopc);
        let frame = self.frames.get(&gopc).and_then(|frames| frames.first());
        match frame.filter(|frame| frame.function == function) {
            Some(frame) => frame.whole(),
            None => function,
        }
    }
}

#[cfg(test)]
mod tests;
