//! Settings of `GODEBUG` that print while the program starts, and so make it slower.

use super::Evidence;
use crate::findings::{Outcome, Verdict, godebug::settings_on};

const DISTORTING: [&str; 4] = ["schedtrace", "scheddetail", "inittrace", "gctrace"];

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let set = settings_on(evidence.godebug.unwrap_or_default(), &DISTORTING);
    let found = (!set.is_empty()).then(|| {
        Verdict::warning(
            "GODEBUG makes this start slower than it is without".to_owned(),
            format!(
                "GODEBUG has {}, which prints while the program starts",
                set.join(",")
            ),
            "Measure without it.",
        )
    });
    found.into()
}
