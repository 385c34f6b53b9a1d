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

#[cfg(test)]
mod tests {
    use std::fs;

    use tracer_ebpf::SITES_PER_TARGET;

    use super::*;
    use crate::binary::{
        Arch, GoBinary, GoVersion, layout,
        testing::{Build, Go},
    };

    #[test]
    fn every_mode_has_sites_in_a_plugin_of_every_go() {
        for go in Go::all() {
            let name = &go.version;
            let data = fs::read(go.build(Build::Plugin)).unwrap();
            let version = GoVersion::parse(name).unwrap();
            let plugin = GoBinary::parse_plugin(&data, "plugin", &version).unwrap();
            assert_eq!(plugin.facts().version, version);
            let (layout, _) = layout::find(&version, Arch::Amd64, &[]).unwrap();
            for mode in [Mode::Sampled, Mode::Exact, Mode::Full] {
                let found = sites(&plugin, Some(&layout), version.minor, mode, true, false);
                let found = found.unwrap_or_else(|attempts| panic!("{name}, {mode}: {attempts:?}"));
                assert!(
                    (1..=SITES_PER_TARGET as usize).contains(&found.sites.len()),
                    "{name}, {mode}: {:?}",
                    found.sites
                );
                assert!(found.missing.is_empty(), "{name}, {mode}: {:?}", found.missing);
            }
            // A goroutine becomes runnable, and runs, by the plugin's own copies.
            let exact = sites(&plugin, Some(&layout), version.minor, Mode::Exact, false, false).unwrap();
            for function in ["runtime.ready", "runtime.execute"] {
                assert!(
                    exact.sites.iter().any(|site| site.function == function),
                    "{name}: {function} is not among {:?}",
                    exact.sites
                );
            }
        }
    }

    #[test]
    fn a_program_can_load_plugins_if_it_imports_the_package() {
        for go in Go::all() {
            let loads_plugins = |build| {
                let data = fs::read(go.build(build)).unwrap();
                GoBinary::parse(&data, "program").unwrap().loads_plugins()
            };
            assert!(loads_plugins(Build::PluginHost), "{}", go.version);
            assert!(!loads_plugins(Build::Cgo), "{}", go.version);
            assert!(!loads_plugins(Build::Static), "{}", go.version);
        }
    }
}
