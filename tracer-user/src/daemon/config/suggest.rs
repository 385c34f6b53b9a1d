//! What somebody may have meant.

/// A longer name than this is no slip of a setting's name, and would take long to compare.
const LONGEST: usize = 64;

/// The one of `names` that is nearest to `written`: a few letters off, or under another table.
pub fn nearest<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    if written.len() > LONGEST {
        return None;
    }
    let normal = written.to_lowercase().replace('-', "_");
    let few = (normal.chars().count() / 3).max(1);
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    names
        .map(|name| {
            let distance = strsim::osa_distance(&normal, name);
            let same_last = last(name) == last(&normal);
            (distance, same_last, name)
        })
        .filter(|(distance, same_last, _)| *distance <= few || *same_last)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognized_and_nonsense_is_not() {
        let names = [
            "http.listen",
            "http.timeout",
            "budget.target",
            "budget.target_floor",
        ];
        for (written, meant) in [
            ("http.lsiten", Some("http.listen")),
            ("htp.listen", Some("http.listen")),
            ("listen", Some("http.listen")),
            ("server.listen", Some("http.listen")),
            ("budget.target-floor", Some("budget.target_floor")),
            ("Budget.Target", Some("budget.target")),
            ("budget.targte", Some("budget.target")),
            ("http.password", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names.into_iter()), meant, "{written}");
        }
        assert_eq!(nearest(&"listen".repeat(100_000), names.into_iter()), None);
    }
}
