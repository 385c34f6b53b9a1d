//! The programs of the modes.

use crate::{bpf::ProgramKind, plan::Mode};

/// Returns what the probes of a mode run.
pub const fn program_for(mode: Mode) -> ProgramKind {
    match mode {
        // It has no probes.
        Mode::Passive => ProgramKind::Empty,
        Mode::Sampled => ProgramKind::Sampled,
        Mode::Exact => ProgramKind::Exact,
        Mode::Full => ProgramKind::Full,
    }
}
