//! Names of creation sites and of functions in stacks, in the program and in its plugins.

use std::{collections::BTreeMap, sync::Arc};

use super::Prepared;
use crate::{binary::Frame, escape::Untrusted, process::Plugin, stream::Symbolizer};

impl Prepared {
    /// Looks up names of creation sites; `None` where the file cannot be read now, so that it is tried again later.
    fn look_up_names(&self, gopcs: &[u64]) -> Option<BTreeMap<u64, Untrusted>> {
        let found = self.target.creation_sites(gopcs.iter().copied());
        let mut names = found
            .inspect_err(|e| log::warn!("no names for creation sites: {e}"))
            .ok()?;
        for (plugin, gopcs) in self.in_plugins(gopcs) {
            match plugin.creation_sites(gopcs) {
                Ok(found) => names.extend(found),
                Err(e) => log::warn!("no names for creation sites of a plugin: {e}"),
            }
        }
        Some(names)
    }

    /// Returns the plugins that have any of these addresses in their code, and those addresses.
    fn in_plugins(&self, addresses: &[u64]) -> Vec<(Arc<Plugin>, Vec<u64>)> {
        let plugins = self.plugins.borrow();
        let of_plugin = plugins.iter().map(|plugin| {
            let inside = addresses.iter().copied().filter(|pc| plugin.contains(*pc));
            (Arc::clone(plugin), inside.collect::<Vec<u64>>())
        });
        of_plugin.filter(|(_, inside)| !inside.is_empty()).collect()
    }
}

impl Symbolizer for Prepared {
    fn function_at(&self, gopc: u64) -> Option<Untrusted> {
        if let Some(known) = self.names.borrow().get(&gopc) {
            return known.clone();
        }
        // The file is mapped anew for each set of unknown addresses: it is too large to be kept.
        let mut names = self.look_up_names(&[gopc])?;
        let found = names.remove(&gopc);
        self.names.borrow_mut().insert(gopc, found.clone());
        found
    }

    fn revision(&self) -> u64 {
        self.plugins.borrow().len() as u64
    }

    fn frames(&self, pcs: &[u64]) -> BTreeMap<u64, Vec<Frame>> {
        let found = self.target.frames(pcs.iter().copied());
        let mut frames = found
            .inspect_err(|e| log::debug!("no names for stacks: {e}"))
            .unwrap_or_default();
        for (plugin, pcs) in self.in_plugins(pcs) {
            match plugin.frames(pcs) {
                Ok(found) => frames.extend(found),
                Err(e) => log::debug!("no names for stacks in a plugin: {e}"),
            }
        }
        frames
    }

    fn prepare(&self, gopcs: &[u64]) {
        let unknown: Vec<u64> = {
            let names = self.names.borrow();
            gopcs
                .iter()
                .copied()
                .filter(|pc| *pc != 0 && !names.contains_key(pc))
                .collect()
        };
        if unknown.is_empty() {
            return;
        }
        let Some(mut found) = self.look_up_names(&unknown) else {
            return;
        };
        let mut names = self.names.borrow_mut();
        for pc in unknown {
            names.insert(pc, found.remove(&pc));
        }
    }
}
