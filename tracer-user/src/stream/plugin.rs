//! What a capture says of the plugins of its target.

use serde::{Deserialize, Serialize};

use crate::escape::Untrusted;

/// A plugin (`-buildmode=plugin`) that the target has loaded. It has its own copy of the scheduler's functions, which must
/// be probed like those of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginSeen {
    /// Path of its file, as the target sees it.
    pub path: Untrusted,
    /// How many of its instructions are probed.
    #[serde(default)]
    pub sites: u64,
    /// For a plugin that was loaded during the capture: the longest time for which its code may have run before it was
    /// probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen_ns: Option<u64>,
    /// Why it is not probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Untrusted>,
}

impl PluginSeen {
    /// Whether all waits in it were seen.
    pub fn is_whole(&self) -> bool {
        self.problem.is_none() && self.unseen_ns.is_none()
    }
}

/// The plugins of a target, as of the end of its capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginsSeen {
    /// Those that were found, in the order in which they were loaded.
    #[serde(default)]
    pub found: Vec<PluginSeen>,
    /// Why it is not known whether there are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Untrusted>,
}

impl PluginsSeen {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.unknown.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::step::{LatencyStep, Step};

    #[test]
    fn a_recording_holds_plugins() {
        let step = Step::Latencies(LatencyStep::Plugins(PluginsSeen {
            found: vec![PluginSeen {
                path: "/srv/plug.so".into(),
                sites: 21,
                unseen_ns: Some(7),
                problem: None,
            }],
            unknown: None,
        }));
        assert_eq!(serde_json::from_slice::<Step>(&step.to_json()).unwrap(), step);
    }

    #[test]
    fn a_plugin_of_which_only_the_path_is_known_is_whole() {
        let seen: PluginSeen = serde_json::from_str(r#"{"path":"/srv/plug.so"}"#).unwrap();
        assert!(seen.is_whole());
        assert!(
            !PluginSeen {
                unseen_ns: Some(1),
                ..seen.clone()
            }
            .is_whole()
        );
        let problem = Some("it cannot be read".into());
        assert!(!PluginSeen { problem, ..seen }.is_whole());
    }
}
