//! Decides which instructions of a target are probed in each mode, and at what expected cost. Computed from the target
//! alone; nothing is attached here.

mod branch;
mod called;
mod casgstatus;
mod changes;
pub mod cost;
pub mod emulation;
pub mod entry;
pub mod exact;
pub mod full;
pub mod mode;
mod origin;
pub mod passive;
pub mod plugin;
pub mod program;
mod recorded;
pub mod sampled;
pub mod sites;
pub mod start;
mod swap;
mod whole;

pub use mode::Mode;
pub use program::Program;
use serde::Serialize;
pub use tracer_ebpf::{Origin, SiteKind, full::status};

use crate::binary::{Code, layout::Layout};
use crate::escape::Untrusted;

/// How many times as much as an emulated instruction a single-stepped one costs the target; measured on virtual
/// machines, where the debug exception is expensive.
pub const SINGLE_STEP_FACTOR: &str = "10 to 14";

/// What the kernel does with an instruction under a uprobe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Emulation {
    /// Emulated: one trap.
    Emulated,
    /// Executed out of line and single-stepped: a second trap, 10 to 14 times the cost measured on a
    /// virtual machine.
    SingleStepped,
    /// The kernel refuses it (lock prefix, exclusives), or some kernels do something with it that may kill the target
    /// (a nop of five bytes on Linux 6.18 and newer).
    Refused,
}

/// One instruction to be probed. It is proven to be one: decoding from the function's entry reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The function that contains it.
    pub function: Untrusted,
    /// Bytes from the function's entry.
    pub offset: u64,
    /// Link-time address.
    pub address: u64,
    /// Offset in the file, to which a uprobe is attached.
    pub file_offset: u64,
    /// Its disassembly.
    pub instruction: String,
    /// What the kernel does with it under a uprobe.
    pub emulation: Emulation,
    /// What a hit means.
    pub kind: SiteKind,
    /// For sites into Runnable: how the goroutine became runnable. For `goschedImpl` always [`Origin::Yielded`]: the
    /// program itself recognizes preemption.
    pub origin: Option<Origin>,
    /// Whether this is a change that every system call makes, even if the goroutine keeps its P.
    pub of_syscall: bool,
    /// For [`SiteKind::Entry`]: the transition that a call of the function is.
    pub what: Option<tracer_ebpf::full::What>,
    /// Where the goroutine's pointer is at this instruction: a register's number or one of
    /// [`tracer_ebpf::gp_in`].
    pub gp_in: u8,
    /// Byte offset from the stack pointer for [`tracer_ebpf::gp_in::STACK_SLOT`]; after an inlined compare-and-swap,
    /// how many bytes the register is past the goroutine's pointer.
    pub slot: u32,
    /// For branches after an inlined compare-and-swap: the zero flag (0, 1) that says that it succeeded, see
    /// [`tracer_ebpf::Site::zf_when_swapped`].
    pub zf_when_swapped: u8,
    /// For [`SiteKind::Swapped`]: the registers with the old and the new status. For [`SiteKind::WaitRecorded`]: the
    /// register with the latency, and 0. For [`SiteKind::SwappedConstants`] and [`SiteKind::StatusEntry`]: the
    /// statuses themselves. For [`SiteKind::StatusCall`]: the statuses as far as the code shows them, else 0; the
    /// program reads them itself.
    pub statuses_in: (u8, u8),
}

/// Something that was tried, and its outcome, for messages: `sampled: no …; passive: …`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// What was tried.
    pub what: String,
    /// Why it failed, or what was found.
    pub outcome: String,
}

/// What can be attached to a binary in each mode.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sites of `exact`, or why there are none.
    pub exact: Result<Vec<Site>, Vec<Attempt>>,
    /// Sites of `sampled`, or why there are none.
    pub sampled: Result<sampled::Sampled, Vec<Attempt>>,
    /// Sites of `full`, or why there are none.
    pub full: Result<full::Full, Vec<Attempt>>,
}

impl Plan {
    /// Decodes the code of the runtime of Go 1.`minor` and chooses the sites. `force` admits instructions that
    /// the kernel must single-step.
    pub fn of(code: &dyn Code, layout: Option<&Layout>, minor: u32, force: bool) -> Self {
        Self {
            exact: exact::exact(code, layout, force),
            sampled: sampled::sampled(code, layout, minor, force),
            full: full::full(code, layout, minor, force),
        }
    }

    /// The sites of a mode; none in `passive`.
    ///
    /// # Errors
    /// None was proven to be right: what was tried.
    pub fn sites(&self, mode: Mode) -> Result<&[Site], &[Attempt]> {
        match mode {
            Mode::Passive => Ok(&[]),
            Mode::Sampled => match &self.sampled {
                Ok(sampled) => Ok(&sampled.sites),
                Err(attempts) => Err(attempts),
            },
            Mode::Exact => self.exact.as_deref().map_err(Vec::as_slice),
            Mode::Full => match &self.full {
                Ok(full) => Ok(&full.sites),
                Err(attempts) => Err(attempts),
            },
        }
    }

    /// Why this binary cannot be probed in a mode, if so.
    pub fn obstacle(&self, mode: Mode) -> Option<String> {
        let attempts = self.sites(mode).err()?;
        Some(format!(
            "no place to attach to was proven: {}",
            describe_attempts(attempts)
        ))
    }

    /// Why a process whose clock is not known cannot be probed in a mode, if so: the programs of `sampled` up to
    /// Go 1.25 compare a time that the target has taken with one of ours.
    pub fn clock_obstacle(&self, mode: Mode) -> Option<String> {
        let sites = self.sites(mode).ok()?;
        let compares = sites.iter().any(|site| site.kind == SiteKind::TrackedWaitEnds);
        compares.then(|| {
            "the process is in a time namespace whose offset cannot be found (it has made another one for its \
             children), so that the times in its memory cannot be compared with ours"
                .to_owned()
        })
    }
}

/// Attempts in one line, for messages: `what: outcome; what: outcome`.
pub fn describe_attempts(attempts: &[Attempt]) -> String {
    attempts
        .iter()
        .map(|a| format!("{}: {}", a.what, a.outcome))
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests;
