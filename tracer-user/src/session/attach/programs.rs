//! What the kernel side is given for a target: which program, what it must know, and room for plugins.

use tracer_ebpf::TargetConfig;

use super::prepare::Prepared;
use crate::{
    bpf::ProgramKind,
    plan::Mode,
    sources::{plugins::MOST_PLUGINS, probes::config_of, programs::program_for},
};

/// Returns how many plugins there is to be room for: the target may load more at any time.
pub(super) fn most_plugins(target: &Prepared) -> u32 {
    if target.loads_plugins() { MOST_PLUGINS } else { 0 }
}

/// Returns what the programs must know of a target.
pub(super) fn config(target: &Prepared, slower_ns: Option<u64>) -> TargetConfig {
    let reading = &target.reading;
    TargetConfig {
        slower_ns: slower_ns.unwrap_or(u64::MAX),
        creation_sites: u32::MAX,
        ..config_of(
            reading.layout(),
            reading.tracking_stamp(),
            &reading.globals,
            target.bias(),
            // Where it is not known, no program needs it: see `Prepared::offers`.
            target.clock().unwrap_or_default(),
        )
    }
}

/// The environment variable that replaces the mode's programs by ones that do nothing: `cargo xtask bench hit` measures
/// the cost of the traps alone by it.
const EMPTY_PROGRAMS: &str = "GMPSCOPE_EMPTY_PROGRAMS";

pub(super) fn program_of(mode: Mode) -> ProgramKind {
    if std::env::var_os(EMPTY_PROGRAMS).is_some() {
        log::warn!("{EMPTY_PROGRAMS} is set: the probes do nothing, so no wait is seen");
        return ProgramKind::Empty;
    }
    program_for(mode)
}
