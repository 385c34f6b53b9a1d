//! Parses Go's version strings.

use crate::{binary::GoVersion, escape::is_dangerous};

/// Longest version string that is accepted; those of development builds have some 100 bytes.
pub const LONGEST: usize = 256;

impl GoVersion {
    /// Parses what `runtime.buildVersion` holds: `go1.25.5`, `go1.27rc1`, `go1.22.10-custom`,
    /// `go1.25.5 X:greenteagc`, `go1.26.0-corp-X:simd`, `devel go1.26-4c1b8fa Mon … X:a,b`. `None` if it is not a
    /// version of Go 1.
    ///
    /// Source: `cmd/link/internal/ld/main.go` (how the experiments are appended), `cmd/dist/build.go`.
    pub fn parse(raw: &str) -> Option<Self> {
        if raw.len() > LONGEST || raw.chars().any(is_dangerous) {
            return None;
        }
        let (text, experiments) = match raw.rfind("X:") {
            // From 1.26 on the separator is '-', unless the version has one already.
            Some(at) if raw[..at].ends_with([' ', '-']) => (&raw[..at - 1], &raw[at + 2..]),
            _ => (raw, ""),
        };
        let (development, text) = match text.strip_prefix("devel ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (minor, rest) = number(text.strip_prefix("go1.")?)?;
        let (patch, rest) = match rest.strip_prefix('.').and_then(number) {
            Some((patch, rest)) => (patch, rest),
            None => (0, rest),
        };
        let rest = rest.trim();
        let suffix = match (development, rest.is_empty()) {
            (false, true) => None,
            (false, false) => Some(rest.to_owned()),
            (true, _) => Some(format!("devel {rest}").trim_end().to_owned()),
        };
        let mut experiments: Vec<String> = experiments
            .split([',', ' '])
            .filter(|e| !e.is_empty())
            .map(str::to_owned)
            .collect();
        experiments.sort_unstable();
        experiments.dedup();
        Some(Self {
            raw: raw.to_owned(),
            minor,
            patch,
            vendor_or_prerelease: suffix,
            experiments,
        })
    }
}

/// Splits off a decimal number at the start.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(raw: &str) -> (u32, u32, Option<String>, Vec<String>) {
        let v = GoVersion::parse(raw).unwrap();
        assert_eq!(v.raw, raw);
        (v.minor, v.patch, v.vendor_or_prerelease, v.experiments)
    }

    fn some(s: &str) -> Option<String> {
        Some(s.to_owned())
    }

    #[test]
    fn every_spelling_the_linker_writes() {
        assert_eq!(parts("go1.25.5"), (25, 5, None, vec![]));
        assert_eq!(parts("go1.21"), (21, 0, None, vec![]));
        assert_eq!(parts("go1.27rc1"), (27, 0, some("rc1"), vec![]));
        assert_eq!(
            parts("go1.25.5 X:greenteagc,aliastypeparams").3,
            ["aliastypeparams", "greenteagc"]
        );
        assert_eq!(parts("go1.26.6-X:simd"), (26, 6, None, vec!["simd".to_owned()]));
        assert_eq!(parts("go1.22.10-custom"), (22, 10, some("-custom"), vec![]));
        assert_eq!(
            parts("go1.26.0-corp X:simd"),
            (26, 0, some("-corp"), vec!["simd".to_owned()])
        );
        assert_eq!(
            parts("devel go1.26-4c1b8fa Mon Nov 3 10:00:00 2025 +0000"),
            (
                26,
                0,
                some("devel -4c1b8fa Mon Nov 3 10:00:00 2025 +0000"),
                vec![]
            )
        );
    }

    #[test]
    fn what_is_no_version() {
        for raw in [
            "",
            "go",
            "go1",
            "go1.",
            "go2.1",
            "unknown",
            "devel +abc",
            "go1.99999999999",
            "go1.2\u{0}",
            "go1.27.3\u{202e}",
        ] {
            assert_eq!(GoVersion::parse(raw), None, "{raw:?}");
        }
    }
}
