//! Where goroutines blocked, of `full --stacks`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::binary::Frame;
use crate::document::named::Named;
use crate::escape::Untrusted;
use crate::model::sched::{Blocked, PlaceReport, StacksReport};
use crate::stream::transition::{StackSeen, end};

/// Places that are listed one by one.
pub const PLACES: usize = 100;

/// Functions of the runtime by which every goroutine blocks, and to which every first function returns.
const LEFT_OUT: [&str; 3] = ["runtime.gopark", "runtime.goparkunlock", "runtime.goexit"];

/// Goroutines that blocked with one stack for one reason and were made at one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockedAt {
    /// The calls, innermost first, inlined ones included: `FUNCTION FILE:LINE`. `runtime.gopark` and
    /// `runtime.goexit`, which all have, are left out.
    pub stack: Vec<Untrusted>,
    /// Why calls are missing after the last one; absent if the stack is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<Incomplete>,
    /// Why they waited, in the runtime's words.
    pub wait_reason: Untrusted,
    /// The `go` statement that made them: `FUNCTION FILE:LINE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Untrusted>,
    /// How many, and how long.
    #[serde(flatten)]
    pub waits: Waits,
}

/// Why a stack has not all of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Incomplete {
    /// There are more calls than are kept.
    Cut,
    /// A frame pointer led nowhere, or could not be read.
    Broken,
}

/// How many waits, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// Waits that ended.
    pub count: u64,
    /// Waits that had not ended when the capture did.
    pub ongoing: u64,
    /// Nanoseconds of both, all together.
    pub total_ns: u64,
    /// The longest of both.
    pub max_ns: u64,
}

/// How whole the picture is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StacksInfo {
    /// Times that a goroutine blocked and its stack was asked for.
    pub walked: u64,
    /// Different stacks that were kept.
    pub different: u64,
    /// Times that a stack was new and the table full.
    pub lost_full: u64,
    /// Times that a stack could not be read.
    pub lost_unreadable: u64,
    /// How many places `blocked_at` lists at most.
    pub shown_at_most: u64,
    /// Places that it leaves out, those with the least time in all.
    pub other_places: u64,
    /// The waits there.
    pub other: Waits,
    /// Waits of which it is not known where: those that began before the capture, and those whose stack was lost.
    pub unknown: Waits,
}

impl Waits {
    /// Those that ended and those that had not.
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

/// The places and how whole that is, from the model's answer; `lost` are the stacks that were lost, by the cause's name.
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
    /// The table was full.
    pub full: u64,
    /// They could not be read.
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
            // Code that is not Go's.
            None => vec![format!("{pc:#x}").into()],
        });
        calls.collect()
    }

    /// The function is named as everywhere else; its line is that of the statement.
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
