//! The description of the traced program in captures and recordings.

use serde::{Deserialize, Serialize};

use crate::escape::Untrusted;

/// The traced program, and its process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetInfo {
    /// Process id, as this process sees it.
    pub pid: u32,
    /// Path of the executable, as the target sees it.
    pub exe: Untrusted,
    /// `1.27.3`, with ` X:…` where experiments are on. Absent for a followed command that is not a Go program.
    #[serde(default, skip_serializing_if = "Untrusted::is_empty")]
    pub go_version: Untrusted,
    /// The layout of the runtime's structs is that of another release, which the memory of the process does not
    /// contradict: `that of go1.22.10, unproven for …, live invariants hold`. Absent where the layout is that of this
    /// version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Untrusted>,
    /// `amd64` or `arm64`.
    pub arch: Untrusted,
    /// `exe` or `pie`.
    #[serde(default, skip_serializing_if = "Untrusted::is_empty")]
    pub build_mode: Untrusted,
    /// Whether it has no symbol table.
    pub stripped: bool,
    /// Whether it was linked with cgo; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgo: Option<bool>,
    /// Whether it was built with a profile; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgo: Option<bool>,
    /// `GOMAXPROCS` at the capture's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gomaxprocs: Option<u32>,
    /// CPUs that the target's cgroup may use; absent where unlimited or unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_cpu_limit: Option<f64>,
    /// How many nanoseconds its CLOCK_MONOTONIC is ahead of the host's, which all times of the capture are of: negative
    /// if it is behind. Absent where the two are the same, as outside of time namespaces, and where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ns: Option<i64>,
}

impl TargetInfo {
    /// The minor version of Go that built it: 27 for `1.27.3` and `1.27rc1`; `None` where it is not known.
    pub fn go_minor(&self) -> Option<u32> {
        let minor = self.go_version.raw().strip_prefix("1.")?;
        let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
        minor.get(..digits)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use crate::document::fixtures::target;

    #[test]
    fn the_minor_version_is_the_second_number() {
        let minor = |version: &str| {
            let mut target = target();
            target.go_version = version.into();
            target.go_minor()
        };
        assert_eq!(minor("1.27.3"), Some(27));
        assert_eq!(minor("1.28rc1 X:greenteagc"), Some(28));
        assert_eq!(minor("1.19"), Some(19));
        for unknown in ["", "1.", "1", "devel go1.28-abc", "2.1.0", "1.99999999999"] {
            assert_eq!(minor(unknown), None, "{unknown}");
        }
    }
}
