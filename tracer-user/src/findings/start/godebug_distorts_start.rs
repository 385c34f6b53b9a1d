//! Settings of `GODEBUG` that print while the program starts, and so make it slower.

use super::Evidence;
use crate::findings::Verdict;

const DISTORTING: [&str; 4] = ["schedtrace", "scheddetail", "inittrace", "gctrace"];

pub(super) fn check(evidence: &Evidence) -> Option<Verdict> {
    let set: Vec<&str> = evidence
        .godebug?
        .split(',')
        .filter(|setting| {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            DISTORTING.contains(&name) && value != "0"
        })
        .collect();
    (!set.is_empty()).then(|| {
        Verdict::warning(
            "GODEBUG makes this start slower than it is without".to_owned(),
            format!(
                "GODEBUG has {}, which prints while the program starts",
                set.join(",")
            ),
            "Measure without it.",
        )
    })
}
