//! More Ps than the cgroup may run: the kernel stops all of them when the quota is used up. The same rule holds for
//! captures and for starts.
//!
//! From Go 1.25 on the runtime follows the limit of its own cgroup, but not below two Ps, nor where a setting forbids it
//! (runtime/cgroup_linux.go).

use super::{Outcome, Verdict, figures::cpus};

/// The first minor version of Go that follows the limit by itself.
const FOLLOWS: u32 = 25;
/// The least number of Ps that such a Go chooses by itself.
const LEAST: f64 = 2.0;

pub(super) fn check(gomaxprocs: Option<u32>, limit: Option<f64>, minor: Option<u32>) -> Outcome {
    judged(gomaxprocs, limit, minor).into()
}

fn judged(gomaxprocs: Option<u32>, limit: Option<f64>, minor: Option<u32>) -> Option<Verdict> {
    let (gomaxprocs, limit) = (gomaxprocs?, limit?);
    let fits = limit.ceil().max(1.0);
    if f64::from(gomaxprocs) <= fits {
        return None;
    }
    let evidence = format!("GOMAXPROCS is {gomaxprocs}, the cgroup may use {}", cpus(limit));
    let follows = minor.filter(|minor| *minor >= FOLLOWS);
    if let Some(minor) = follows
        && f64::from(gomaxprocs) <= LEAST
    {
        return Some(Verdict::info(
            format!(
                "GOMAXPROCS is {gomaxprocs}, the least that Go chooses by itself, and the cgroup may use less"
            ),
            evidence,
            format!(
                "Go 1.{minor} follows the limit, but not below {LEAST:.0}. The kernel throttles all threads at once when \
                 the quota is used up: raise the limit to {LEAST:.0} CPUs. GOMAXPROCS={fits:.0} in the environment would \
                 fit, too; then the garbage collector and the program take turns."
            ),
        ));
    }
    let throttled = "The kernel throttles all threads at once when the quota is used up.";
    let advice = match (follows, minor) {
        (Some(minor), _) => format!(
            "{throttled} Go 1.{minor} follows the limit of its own cgroup by itself, unless GOMAXPROCS is set in the \
             environment or by runtime.GOMAXPROCS, GODEBUG has containermaxprocs=0, go.mod has a go line before 1.{FOLLOWS}, \
             or the limit is that of a parent cgroup: change that, or set GOMAXPROCS={fits:.0}."
        ),
        (None, Some(_)) if fits < LEAST => format!("{throttled} Set GOMAXPROCS={fits:.0}."),
        (None, Some(_)) => format!(
            "{throttled} Set GOMAXPROCS={fits:.0}, or build with Go 1.{FOLLOWS} or newer, which follows the limit by itself."
        ),
        (None, None) => format!(
            "{throttled} Set GOMAXPROCS={fits:.0}. Go 1.{FOLLOWS} and newer follow the limit by themselves, not below \
             {LEAST:.0}."
        ),
    };
    Some(Verdict::warning(
        "GOMAXPROCS is larger than the cgroup's CPU limit".to_owned(),
        evidence,
        advice,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Severity;

    fn advice(gomaxprocs: u32, limit: f64, minor: Option<u32>) -> (Severity, String) {
        let verdict = judged(Some(gomaxprocs), Some(limit), minor).unwrap();
        (verdict.severity, verdict.advice)
    }

    #[test]
    fn what_fits_is_no_finding() {
        for minor in [None, Some(19), Some(27)] {
            assert!(judged(Some(2), Some(1.5), minor).is_none());
            assert!(judged(Some(1), Some(0.25), minor).is_none());
            assert!(judged(Some(8), None, minor).is_none());
            assert!(judged(None, Some(1.0), minor).is_none());
        }
    }

    #[test]
    fn a_go_that_follows_the_limit_is_not_advised_to_be_built_anew() {
        let (severity, advice) = advice(8, 1.5, Some(27));
        assert_eq!(severity, Severity::Warning);
        assert!(
            !advice.contains("build with") && advice.contains("containermaxprocs=0"),
            "{advice}"
        );
    }

    #[test]
    fn the_least_that_go_chooses_is_good_to_know() {
        let (severity, text) = advice(2, 0.5, Some(27));
        assert_eq!(severity, Severity::Info);
        assert!(
            text.contains("not below 2") && text.contains("raise the limit to 2 CPUs"),
            "{text}"
        );
        // An older Go does not choose it.
        assert_eq!(advice(2, 0.5, Some(24)).0, Severity::Warning);
    }

    #[test]
    fn a_newer_go_is_only_advised_where_it_would_help() {
        assert!(
            advice(8, 3.5, Some(24))
                .1
                .contains("GOMAXPROCS=4, or build with Go 1.25")
        );
        let (_, text) = advice(8, 0.5, Some(24));
        assert!(
            text.contains("GOMAXPROCS=1.") && !text.contains("build"),
            "{text}"
        );
        let (_, text) = advice(8, 0.5, None);
        assert!(text.contains("Go 1.25 and newer follow"), "{text}");
    }
}
