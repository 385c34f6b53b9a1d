//! Parses Go's version strings.

use crate::{binary::GoVersion, escape::is_dangerous};

/// Longest version string that is accepted; those of development builds have some 100 bytes.
pub const LONGEST: usize = 256;

impl GoVersion {
    /// Parses what `runtime.buildVersion` or the build information holds: `go1.25.5`, `go1.27rc1`,
    /// `go1.22.9 (Red Hat 1.22.9-1.el9)`, `go1.25.5 X:greenteagc`, `go1.26.0-corp-X:simd`,
    /// `devel go1.26-4c1b8fa Mon … X:a,b`. `None` if it is not a version of Go 1.
    ///
    /// Source: `cmd/link/internal/ld/main.go` (how the experiments are appended), `cmd/dist/build.go`. Whatever else a
    /// vendor writes there is kept in `vendor_or_prerelease`.
    pub fn parse(raw: &str) -> Option<Self> {
        if raw.len() > LONGEST || raw.chars().any(is_dangerous) {
            return None;
        }
        let (text, experiments, after) = split_experiments(raw).unwrap_or((raw, Vec::new(), ""));
        let (development, text) = match text.strip_prefix("devel ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (minor, rest) = number(text.strip_prefix("go1.")?)?;
        let (patch, rest) = match rest.strip_prefix('.').and_then(number) {
            Some((patch, rest)) => (patch, rest),
            None => (0, rest),
        };
        let parts = [if development { "devel" } else { "" }, rest.trim(), after.trim()];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Some(Self {
            raw: raw.to_owned(),
            minor,
            patch,
            vendor_or_prerelease: (!parts.is_empty()).then(|| parts.join(" ")),
            experiments,
        })
    }
}

/// Splits a version around its experiments: what is before `X:a,b` without the separator, the experiments (sorted), and
/// what is after. From Go 1.26 on the separator is `-`, unless the version has one already. `None` if no word of the
/// version is such a list: a vendor's `X:` may mean anything.
fn split_experiments(raw: &str) -> Option<(&str, Vec<String>, &str)> {
    let (at, marker) = raw.rmatch_indices("X:").next()?;
    let before = raw.get(..at)?.strip_suffix([' ', '-'])?;
    let list = raw.get(at + marker.len()..)?;
    let (list, after) = list.split_at(list.find(' ').unwrap_or(list.len()));
    let is_name = |name: &str| {
        let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        !name.is_empty() && name.bytes().all(is_part)
    };
    if !list.split(',').all(is_name) {
        return None;
    }
    let mut experiments: Vec<String> = list.split(',').map(str::to_owned).collect();
    experiments.sort_unstable();
    experiments.dedup();
    Some((before, experiments, after))
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
    fn versions_of_vendors_and_prereleases() {
        let cases: [(&str, u32, u32, &str, &[&str]); 14] = [
            (
                "go1.22.9 (Red Hat 1.22.9-1.el9)",
                22,
                9,
                "(Red Hat 1.22.9-1.el9)",
                &[],
            ),
            (
                "go1.22.9 (Red Hat 1.22.9-2.el9_5) X:strictfipsruntime",
                22,
                9,
                "(Red Hat 1.22.9-2.el9_5)",
                &["strictfipsruntime"],
            ),
            (
                "go1.22.9 X:strictfipsruntime (Red Hat 1.22.9-2.el9_5)",
                22,
                9,
                "(Red Hat 1.22.9-2.el9_5)",
                &["strictfipsruntime"],
            ),
            ("go1.21.13-fips", 21, 13, "-fips", &[]),
            ("go1.21.13+fips", 21, 13, "+fips", &[]),
            ("go1.24rc1", 24, 0, "rc1", &[]),
            ("go1.18beta2", 18, 0, "beta2", &[]),
            ("go1.23.1-bigcorp", 23, 1, "-bigcorp", &[]),
            ("go1.23.1-bigcorp-X:rangefunc", 23, 1, "-bigcorp", &["rangefunc"]),
            (
                "devel go1.28-abcdef Mon Nov 3",
                28,
                0,
                "devel -abcdef Mon Nov 3",
                &[],
            ),
            (
                "go1.28-devel_4c1b8fa Mon Nov 3 10:00:00 2025 X:simd",
                28,
                0,
                "-devel_4c1b8fa Mon Nov 3 10:00:00 2025",
                &["simd"],
            ),
            ("devel go1.28", 28, 0, "devel", &[]),
            // A digit too many for a number, and a second point that begins none.
            ("go1.22.99999999999", 22, 0, ".99999999999", &[]),
            ("go1.22.x", 22, 0, ".x", &[]),
        ];
        for (raw, minor, patch, suffix, experiments) in cases {
            let experiments: Vec<String> = experiments.iter().map(ToString::to_string).collect();
            assert_eq!(parts(raw), (minor, patch, some(suffix), experiments), "{raw}");
        }
        assert_eq!(
            parts("go1.22.5 X:boringcrypto"),
            (22, 5, None, vec!["boringcrypto".to_owned()])
        );
    }

    #[test]
    fn what_is_no_list_of_experiments_is_the_vendors() {
        for (raw, suffix) in [
            ("go1.22.5 X:", "X:"),
            ("go1.22.5 X:,", "X:,"),
            ("go1.22.5 X:a,,b", "X:a,,b"),
            ("go1.22.5 X:Rel-7", "X:Rel-7"),
            ("go1.22.5 (FOX:a)", "(FOX:a)"),
            ("go1.22.5X:a", "X:a"),
            ("go1.22.5 X:é", "X:é"),
        ] {
            assert_eq!(parts(raw), (22, 5, some(suffix), vec![]), "{raw}");
        }
        // Of two only the last one can be the linker's.
        let twice = parts("go1.22.5 X:a X:b,a");
        assert_eq!(
            (twice.2, twice.3),
            (some("X:a"), vec!["a".to_owned(), "b".to_owned()])
        );
    }

    #[test]
    fn nothing_hostile_panics_and_what_is_parsed_is_kept_as_it_was() {
        let pieces = [
            "go1.",
            "go1",
            "devel ",
            "X:",
            " X:",
            "-X:",
            "é",
            ".",
            ",",
            "22",
            "99999999999999999999",
            " ",
            "-",
            "(",
            "",
        ];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    for d in pieces {
                        let raw = format!("{a}{b}{c}{d}");
                        assert!(GoVersion::parse(&raw).is_none_or(|v| v.raw == raw), "{raw}");
                    }
                }
            }
        }
        let long = format!("go1.22.5-{}", "a".repeat(LONGEST));
        assert_eq!(GoVersion::parse(&long), None);
        assert!(GoVersion::parse(&long[..LONGEST]).is_some());
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
