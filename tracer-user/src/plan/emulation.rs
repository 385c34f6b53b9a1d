//! What the kernel does with an instruction under a uprobe, and whether it may be probed.

use super::{Attempt, Emulation, SINGLE_STEP_FACTOR};
use crate::target::code::{Insn, Shape};

/// What may be probed beside the instructions that every kernel emulates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Instructions that the kernel must single-step: `--force`.
    pub single_stepped: bool,
    /// Nops of five bytes, which the kernel replaces: x86_64, Linux 6.18 and newer.
    pub five_byte_nops: bool,
}

/// What the kernel does with `insn`.
pub fn emulation(insn: &Insn) -> Emulation {
    match insn.shape {
        Shape::Emulated => Emulation::Emulated,
        Shape::SingleStepped => Emulation::SingleStepped,
        Shape::Refused => Emulation::Refused,
    }
}

/// Whether an instruction on a hot path may be probed; `place` is for the message.
///
/// # Errors
/// It would have to be single-stepped and nobody insisted, or the kernel refuses it.
pub fn admit(emulation: Emulation, place: &str, instruction: &str, force: bool) -> Result<(), Attempt> {
    let outcome = match emulation {
        Emulation::Emulated | Emulation::Replaced => return Ok(()),
        Emulation::SingleStepped if force => return Ok(()),
        Emulation::SingleStepped => format!(
            "`{instruction}` would be single-stepped by the kernel, which costs the target {SINGLE_STEP_FACTOR} \
             times as much per hit as an emulated instruction; --force probes it all the same"
        ),
        Emulation::Refused => format!("the kernel lets nobody probe `{instruction}`"),
    };
    Err(Attempt {
        what: place.to_owned(),
        outcome,
    })
}
