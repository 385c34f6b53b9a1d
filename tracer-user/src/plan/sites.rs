//! From instructions to probe sites: what `exact` and `sampled` share.

use super::{Attempt, Site, SiteKind, emulation};
use crate::binary::code::{self, Insn, Shape};
use crate::binary::{Code, Function};
use tracer_ebpf::gp_in;

pub use super::exact::exact;
pub use super::sampled::sampled;

/// A function of the target with its instructions.
pub(super) struct Decoded {
    /// The function.
    pub function: Function,
    /// Its instructions, from the entry on.
    pub insns: Vec<Insn>,
}

impl Decoded {
    /// Decodes `function`.
    ///
    /// # Errors
    /// Its bytes are not instructions, or are not in the file.
    pub fn new(code: &dyn Code, function: &Function) -> Result<Self, Attempt> {
        let insns = code::decode(code, function).map_err(|outcome| Attempt {
            what: format!("decoding {}", function.name),
            outcome,
        })?;
        Ok(Self {
            function: function.clone(),
            insns,
        })
    }
}

/// Makes a site of an instruction that was found by decoding from the entry of its function.
///
/// # Errors
/// The kernel would single-step it (unless `force`) or refuse it, or it is not in the file.
pub(super) fn site(
    code: &dyn Code,
    function: &Function,
    insn: &Insn,
    kind: SiteKind,
    force: bool,
) -> Result<Site, Attempt> {
    let offset = insn.address.wrapping_sub(function.start);
    let place = format!("{}+{offset:#x}", function.name);
    let fail = |outcome: &str| Attempt {
        what: place.clone(),
        outcome: outcome.to_owned(),
    };
    let file_offset = code
        .file_offset(insn.address)
        .ok_or_else(|| fail("its code is not in the file"))?;
    let bytes = code
        .code_of(function)
        .and_then(|bytes| {
            bytes
                .get(usize::try_from(offset).ok()?..)?
                .get(..usize::from(insn.len))
        })
        .ok_or_else(|| fail("its code is not in the file"))?;
    let instruction = code::disassemble(code.arch(), bytes, insn.address);
    let emulation = emulation::emulation(insn);
    emulation::admit(emulation, &place, &instruction, force)?;
    Ok(Site {
        function: function.name.clone(),
        offset,
        address: insn.address,
        file_offset,
        instruction,
        emulation,
        kind,
        origin: None,
        what: None,
        of_syscall: false,
        gp_in: gp_in::CURG,
        slot: 0,
        zf_when_swapped: 0,
        statuses_in: (0, 0),
    })
}

/// Checks a site against the binary again before attaching: a uprobe in the middle of an instruction kills the target.
///
/// # Errors
/// Decoding the function from its entry does not reach the site, or finds another instruction there.
pub fn verify(code: &dyn Code, site: &Site) -> Result<(), Attempt> {
    let fail = |outcome: &str| Attempt {
        what: format!("{}+{:#x}", site.function, site.offset),
        outcome: outcome.to_owned(),
    };
    let start = site.address.wrapping_sub(site.offset);
    let function = code
        .functions(site.function.raw())
        .into_iter()
        .find(|f| f.start == start)
        .ok_or_else(|| fail("the binary has no such function there"))?;
    let decoded = Decoded::new(code, &function)?;
    let insn = decoded
        .insns
        .iter()
        .find(|i| i.address == site.address)
        .ok_or_else(|| fail("no instruction begins there"))?;
    if insn.shape == Shape::Refused {
        return Err(fail("the kernel refuses that instruction"));
    }
    if emulation::emulation(insn) != site.emulation {
        return Err(fail("another instruction is there"));
    }
    if code.file_offset(site.address) != Some(site.file_offset) {
        return Err(fail("it is elsewhere in the file"));
    }
    Ok(())
}
