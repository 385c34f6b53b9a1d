//! Finds the plugins of a target while it is traced, and has each of them probed.
//!
//! The runtime's list of modules is looked at before the probes are attached, at each collection while they are, and once
//! more at the end of the window. A plugin that appears in between is probed from then on, and the time since the
//! last look, in which its code may have run unseen, makes the capture incomplete.

use std::sync::Arc;

use super::prepare::Prepared;
use crate::{
    clock::now_ns,
    error::{Error, Result},
    escape::Untrusted,
    plan::{Mode, plugin::PluginSites},
    process::Plugin,
    sources::plugins::PluginRequest,
    stream::plugin::{PluginSeen, PluginsSeen},
};

/// How often the list is looked at, at most.
const EVERY_NS: u64 = 100_000_000;

/// A plugin that was opened, and what is to be probed in it.
pub struct OpenPlugin {
    path: Untrusted,
    opened: Result<(Arc<Plugin>, PluginSites)>,
}

impl OpenPlugin {
    /// The request to attach to it; `None` where it could not be analysed.
    pub fn request(&self) -> Option<PluginRequest<'_>> {
        let (plugin, found) = self.opened.as_ref().ok()?;
        Some(PluginRequest {
            file: plugin.file.file(),
            sites: &found.sites,
            bias: plugin.bias,
        })
    }

    /// What its code does not let us see, for a reader of the figures.
    fn missing(&self) -> impl Iterator<Item = String> + '_ {
        let found = self.opened.iter().flat_map(|(_, found)| &found.missing);
        found.map(move |attempt| format!("not seen in {}: {}: {}", self.path, attempt.what, attempt.outcome))
    }
}

/// The plugins that were found by now.
pub struct Plugins {
    mode: Mode,
    syscalls: bool,
    /// Address of the moduledata of the last one.
    last: Option<u64>,
    /// When the list was last read.
    looked_ns: u64,
    seen: PluginsSeen,
    missing: Vec<String>,
}

impl Plugins {
    /// Opens the plugins that are loaded before anything is attached.
    pub fn open(target: &Prepared, mode: Mode, syscalls: bool) -> (Self, Vec<OpenPlugin>) {
        let mut plugins = Self {
            mode,
            syscalls,
            last: None,
            looked_ns: now_ns(),
            seen: PluginsSeen::default(),
            missing: Vec::new(),
        };
        let opened = plugins.open_new(target).unwrap_or_else(|e| {
            plugins.seen.unknown = Some(e.message.into());
            Vec::new()
        });
        (plugins, opened)
    }

    /// Whether the list is to be looked at again.
    pub fn are_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.looked_ns) >= EVERY_NS
    }

    /// Opens the plugins that were loaded since the last look; also returns when that was. A process that has ended has
    /// none.
    pub fn look(&mut self, target: &Prepared) -> (u64, Vec<OpenPlugin>) {
        let (before_ns, now_ns) = (self.looked_ns, now_ns());
        if self.seen.unknown.is_some() {
            return (before_ns, Vec::new());
        }
        match self.open_new(target) {
            Ok(opened) => {
                self.looked_ns = now_ns;
                (before_ns, opened)
            }
            Err(e) => {
                log::debug!("the runtime's list of modules was not read: {e}");
                (before_ns, Vec::new())
            }
        }
    }

    fn open_new(&mut self, target: &Prepared) -> Result<Vec<OpenPlugin>> {
        let new = target.modules_after(self.last)?;
        if !new.is_empty() {
            // Another program's memory may hold anything there.
            target.unchanged()?;
        }
        let opened = new.iter().map(|module| {
            let (path, opened) = target.open_plugin(module, self.mode, self.syscalls);
            OpenPlugin { path, opened }
        });
        let opened = opened.collect();
        self.last = new.last().map_or(self.last, |module| Some(module.address));
        Ok(opened)
    }

    /// Adds a plugin and whether its probes are attached. `since_ns`: when it was not loaded yet, if the window was open
    /// then. Returns the number of its sites.
    pub fn add(&mut self, plugin: &OpenPlugin, attached: Result<()>, since_ns: Option<u64>) -> usize {
        let sites = plugin.request().map_or(0, |request| request.sites.len());
        let problem = match &plugin.opened {
            Err(e) => Some(e.message.clone()),
            Ok(_) => attached.err().map(|e| e.message),
        };
        let sites = if problem.is_some() { 0 } else { sites };
        if let Some(why) = &problem {
            log::warn!(
                "the plugin {} is not probed: {}",
                plugin.path,
                Untrusted::from(why.as_str())
            );
        } else if since_ns.is_some() {
            log::info!("the plugin {} was loaded, and is probed from now on", plugin.path);
        }
        self.missing.extend(plugin.missing());
        self.seen.found.push(PluginSeen {
            path: plugin.path.clone(),
            sites: u64::try_from(sites).unwrap_or(u64::MAX),
            unseen_ns: since_ns.map(|since_ns| now_ns().saturating_sub(since_ns)),
            problem: problem.map(Untrusted::from),
        });
        sites
    }

    /// Adds the plugins that were loaded since the last look, at the end of the window: they are not probed any more.
    pub fn look_last(&mut self, target: &Prepared) {
        let (since_ns, opened) = self.look(target);
        for plugin in opened {
            let too_late = Error::failed("it was loaded just before the end of the capture");
            self.add(&plugin, Err(too_late), Some(since_ns));
        }
        // What is still collected belongs to the window, and no plugin does that comes now.
        self.looked_ns = u64::MAX;
    }

    /// Describes them for the capture.
    pub fn seen(&self) -> &PluginsSeen {
        &self.seen
    }

    /// Returns what the code of the plugins does not let us see.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }
}
