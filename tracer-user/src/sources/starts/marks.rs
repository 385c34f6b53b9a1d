//! Where marks are probed: the points of a binary's sites, attaching to them, and how often they were hit.

use std::fs::File;

use tracer_ebpf::{Counters, Meaning};

use crate::{
    bpf::{
        Kernel, ProgramKind, Scope,
        attach::{self, Point, Probes},
        maps,
    },
    error::Result,
    plan::start::{MarkSite, StartPlan},
    stream::{Kind, Loss, LossCause, Observation},
};

/// Makes the points of `sites`, which are some of `plan`. Hits count for the target in slot `target`, and marks name
/// `binary`.
pub(super) fn points(plan: &StartPlan, sites: &[MarkSite], target: u32, binary: u16) -> Vec<Point> {
    let points = sites.iter().map(|site| Point {
        file_offset: site.site.file_offset,
        address: site.site.address,
        site: tracer_ebpf::Site {
            target,
            kind: site.site.kind as u8,
            meaning: Meaning::mark(site.mark),
            gp_in: site.site.gp_in,
            slot: site.site.slot,
            binary,
            // The init task's layout: see the kernel side's `init_function`.
            old_in: u8::from(plan.old_tasks),
            ..tracer_ebpf::Site::default()
        },
    });
    points.collect()
}

/// Attaches to the points of a binary, whose sites have this slot.
///
/// # Errors
/// As [`attach::attach`].
pub(super) fn attach(
    kernel: &mut Kernel,
    points: &[Point],
    slot: u32,
    scope: Scope,
    file: &File,
) -> Result<Probes> {
    let wanted = attach::Request {
        program: ProgramKind::Mark,
        points,
        slot,
        scope,
        file: &attach::path_of(file),
    };
    attach::attach(kernel, wanted)
}

/// Reads the hits and losses of a slot since the last call, whose counts are in `counted`.
///
/// # Errors
/// The kernel's table cannot be read.
pub(super) fn new_counts(
    kernel: &mut Kernel,
    slot: u32,
    counted: &mut Counters,
    now_ns: u64,
) -> Result<Vec<Observation>> {
    let counters = maps::read_counters(&mut kernel.ebpf, slot)?;
    let new = counters.since(counted);
    *counted = counters;
    // Only where a tree is followed can it be full.
    let lost = new.marks_lost + new.calls_lost + new.tree_full;
    let hits = (new.hits() > 0).then(|| Kind::Hits(new.hits()));
    let loss = (lost > 0).then_some(Kind::Loss(Loss {
        cause: LossCause::StartsLost,
        count: lost,
    }));
    let kinds = hits.into_iter().chain(loss);
    Ok(kinds.map(|kind| Observation { at_ns: now_ns, kind }).collect())
}
