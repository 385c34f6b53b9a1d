//! Which instructions are probed in a plugin (`-buildmode=plugin`).
//!
//! A plugin brings copies of the runtime's functions, and calls those: the linker binds calls of functions to the module
//! that they are in (`putelfsym` in cmd/link/internal/ld/symtab.go), while variables such as `runtime.sched` are found
//! through the global offset table and are those of the program. So the scheduler is one, and its code is there several
//! times: whatever is probed in the program has to be probed in each plugin, too.

use super::{Attempt, Mode, Site, exact, full, sampled};
use crate::binary::{Code, layout::Layout};

/// The sites of one mode in a plugin, and what they do not show.
#[derive(Clone, Debug, Default)]
pub struct PluginSites {
    /// The instructions to probe.
    pub sites: Vec<Site>,
    /// Transitions that the plugin's code does not let us see (`full`).
    pub missing: Vec<Attempt>,
}

/// Finds the sites of `mode` in a plugin of a program of Go 1.`minor`. `layout` is that of the program; `syscalls` as in
/// `full --syscalls`; `force` admits instructions that the kernel must single-step.
///
/// # Errors
/// None was proven to be right: what was tried.
pub fn sites(
    code: &dyn Code,
    layout: Option<&Layout>,
    minor: u32,
    mode: Mode,
    syscalls: bool,
    force: bool,
) -> Result<PluginSites, Vec<Attempt>> {
    let of = |sites| PluginSites {
        sites,
        missing: Vec::new(),
    };
    match mode {
        Mode::Passive => Ok(PluginSites::default()),
        Mode::Sampled => sampled::sampled(code, layout, minor, force).map(|found| of(found.sites)),
        Mode::Exact => exact::exact(code, layout, force).map(of),
        Mode::Full => full::in_plugin(code, layout, minor, force).map(|mut found| {
            if syscalls {
                found.sites.append(&mut found.syscalls);
            }
            PluginSites {
                sites: found.sites,
                missing: found.missing,
            }
        }),
    }
}
