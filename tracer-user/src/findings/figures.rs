//! Figures as findings write them.

/// `part` of `whole`, between 0 and 1.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p > 0.0 && p < 0.01 => "under 0.01%".to_owned(),
        p if p < 1.0 => format!("{p:.2}%"),
        p => format!("{p:.1}%"),
    }
}

/// A number of CPUs.
pub(super) fn cpus(limit: f64) -> String {
    format!("{limit:.2} CPUs")
}

/// A duration in seconds.
pub(super) fn seconds(ns: u64) -> String {
    format!("{:.1} s", ns as f64 / 1e9)
}

/// A duration in milliseconds.
pub(super) fn milliseconds(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}
