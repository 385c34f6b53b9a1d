//! What the kernel does with an instruction under a uprobe, and whether it may be probed.

use super::{Attempt, Emulation, SINGLE_STEP_FACTOR};
use crate::binary::code::{Insn, Shape};

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
/// It would be single-stepped and `force` is not set, or the kernel refuses it.
pub fn admit(emulation: Emulation, place: &str, instruction: &str, force: bool) -> Result<(), Attempt> {
    let outcome = match emulation {
        Emulation::Emulated => return Ok(()),
        Emulation::SingleStepped if force => return Ok(()),
        Emulation::SingleStepped => format!(
            "`{instruction}` would be single-stepped by the kernel, which costs the target {SINGLE_STEP_FACTOR} \
             times as much per hit as an emulated instruction; --force probes it all the same"
        ),
        Emulation::Refused => {
            format!(
                "`{instruction}` must not be probed: the kernel refuses it, or does what the target may die of"
            )
        }
    };
    Err(Attempt {
        what: place.to_owned(),
        outcome,
    })
}
