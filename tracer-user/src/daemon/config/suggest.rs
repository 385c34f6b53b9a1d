//! Suggests the name that was probably meant.

/// Longer names are not compared: they are not misspelled settings, and comparing them would take long.
const LONGEST: usize = 64;

/// The one of `names` that is most like `written`: with a few wrong letters, in another table, or without its table.
pub fn nearest<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    if written.len() > LONGEST {
        return None;
    }
    let written = written.to_lowercase().replace('-', "_");
    let key = last(&written);
    names
        .filter_map(|name| {
            let whole = strsim::osa_distance(&written, name);
            let keys = strsim::osa_distance(key, last(name));
            let alike = whole <= few(&written) || keys == 0 || (key == written && keys <= few(key));
            alike.then_some((whole.min(keys), whole, name))
        })
        .min()
        .map(|(.., name)| name)
}

/// The part of a dotted name after its table.
fn last(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, key)| key)
}

/// How many letters of a name may be wrong.
fn few(name: &str) -> usize {
    (name.chars().count() / 3).max(1)
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
            ("lisen", Some("http.listen")),
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
