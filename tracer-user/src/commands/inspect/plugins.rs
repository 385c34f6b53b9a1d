//! Describes the plugins that a process has loaded, and what would be probed in each.

use std::collections::BTreeMap;

use crate::{
    document::inspection::PluginInfo,
    error::{Error, Result},
    escape::Untrusted,
    plan::{Mode, Program, describe_attempts, plugin, program::Reading},
    process::{
        Plugin, Process, Target,
        memory::ProcessMemory,
        modules::{LoadedModule, ModuleList},
    },
};

/// Finds the plugins of a process in the runtime's list.
///
/// # Errors
/// The program can load plugins, and the list cannot be read.
pub(super) fn all(target: &Target, program: &Program, reading: &Reading) -> Result<Vec<PluginInfo>> {
    let (Some(process), Some(first)) = (&target.process, program.modules) else {
        return Ok(Vec::new());
    };
    let layout = reading
        .layout
        .as_ref()
        .map_err(|e| Error::not_traceable(e.to_string()))?;
    let list = ModuleList::new(target.in_process(first), &layout.0.moduledata);
    let memory = ProcessMemory::new(process.pid().unsigned_abs());
    let found = list.after(&memory, None)?;
    target.unchanged()?;
    Ok(found
        .iter()
        .map(|module| describe(process, module, target, reading))
        .collect())
}

fn describe(process: &Process, module: &LoadedModule, target: &Target, reading: &Reading) -> PluginInfo {
    let version = &target.facts.version;
    let (path, opened) = Plugin::open(process, module, version, |binary| {
        let in_mode = |mode| {
            let found = plugin::sites(binary, reading.layout(), version.minor, mode, false, false);
            (mode, found.map(|found| found.sites.len()))
        };
        let probed = Mode::ALL.into_iter().filter(|mode| mode.has_probes());
        Ok(probed.map(in_mode).collect::<Vec<_>>())
    });
    let mut described = PluginInfo {
        path,
        sites: BTreeMap::new(),
        problems: BTreeMap::new(),
    };
    let modes = match opened {
        Ok((_, modes)) => modes,
        Err(e) => {
            let probed = Mode::ALL.into_iter().filter(|mode| mode.has_probes());
            described.problems = probed
                .map(|mode| (mode.name(), e.message.clone().into()))
                .collect();
            return described;
        }
    };
    for (mode, found) in modes {
        match found {
            Ok(sites) => {
                described.sites.insert(mode.name(), sites);
            }
            Err(attempts) => {
                let why = Untrusted::from(describe_attempts(&attempts));
                described.problems.insert(mode.name(), why);
            }
        }
    }
    described
}
