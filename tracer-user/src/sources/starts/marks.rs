//! Where marks are probed: the points of a binary's sites, and attaching to them.

use std::fs::File;

use tracer_ebpf::Meaning;

use crate::{
    bpf::{
        Kernel, ProgramKind, Scope,
        attach::{self, Point, Probes},
    },
    error::Result,
    plan::start::{MarkSite, StartPlan},
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
