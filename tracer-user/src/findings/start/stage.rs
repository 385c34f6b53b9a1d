//! Whose code runs in a phase of a start: what can be done about it depends on that.

use crate::model::start::PhaseKind;

/// Whose code runs in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The kernel and the dynamic loader read the program and its libraries.
    Loading,
    /// The C library and constructors run, where there are any.
    BeforeGo,
    /// Go's runtime prepares itself.
    Runtime,
    /// A package's init runs.
    Init,
}

impl Stage {
    pub(super) const fn of(kind: &PhaseKind) -> Self {
        match kind {
            PhaseKind::Exec | PhaseKind::Loader => Self::Loading,
            PhaseKind::Rt0 => Self::BeforeGo,
            PhaseKind::OsInit
            | PhaseKind::SchedInit
            | PhaseKind::MainCreated
            | PhaseKind::MainStarted
            | PhaseKind::RuntimeMain => Self::Runtime,
            PhaseKind::Init(_) => Self::Init,
        }
    }
}
