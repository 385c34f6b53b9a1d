//! The modes of tracing, by what they cost the target.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a target is traced. In the order of what it costs the target, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No probe at all: the runtime's own memory is read from outside.
    Passive,
    /// About one probe hit per 8 scheduling cycles, at the sample that the runtime itself chooses.
    Sampled,
    /// Two probe hits per scheduling cycle: every wait.
    Exact,
    /// Every transition of goroutines, Ps and Ms, one by one.
    Full,
}

impl Mode {
    /// Every mode, the cheapest first.
    pub const ALL: [Mode; 4] = [Mode::Passive, Mode::Sampled, Mode::Exact, Mode::Full];

    /// The name that the command line and JSON use.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Passive => "passive",
            Mode::Sampled => "sampled",
            Mode::Exact => "exact",
            Mode::Full => "full",
        }
    }

    /// Whether probes are attached in this mode.
    pub const fn has_probes(self) -> bool {
        !matches!(self, Mode::Passive)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
