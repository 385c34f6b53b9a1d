//! Which processes are traced, and by which probes.

use tracer_ebpf::start::exec;

/// The processes whose starts are traced. Except for [`Self::Any`], probes are bound to single processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracedProcesses {
    /// One process that is held before its execve: all sites, and its system calls.
    Held(u32),
    /// Processes that are held one after the other: all sites, and their system calls.
    HeldInTurn,
    /// Processes that are held, and all their descendants: sites that are executed once, and their system calls.
    Tree,
    /// Every process that executes a certain file, held by the gate: sites that are executed once.
    Next,
    /// Every process: sites that are executed once. The probes are in every process that maps the file privately,
    /// whether it runs it or only reads it.
    Any,
}

impl TracedProcesses {
    /// The `execve` calls that the kernel side follows, besides those of held processes.
    pub(super) fn every_exec(self) -> u32 {
        match self {
            Self::Held(_) | Self::HeldInTurn | Self::Tree => exec::HELD,
            Self::Next => exec::GATED,
            Self::Any => exec::EVERY,
        }
    }
}
