//! Makes docs/metrics.md from the table of families.

use std::fmt::Write;

use super::{
    bounds::Bounds,
    families::{Family, Kind, Read, groups},
};

/// The text before the tables.
const HEAD: &str = include_str!("head.md");

/// Makes the whole page.
pub fn document() -> String {
    let mut page = HEAD
        .replace("{FINE}", &Bounds::Fine.upper_ns().count().to_string())
        .replace("{COARSE}", &Bounds::Coarse.upper_ns().count().to_string());
    for (subject, families) in groups() {
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {subject}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n"
        );
        for family in families {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                family.name,
                kind(family),
                labels(family),
                family.help.replace('|', "\\|")
            );
        }
    }
    page
}

fn kind(family: &Family) -> &'static str {
    match family.kind {
        Kind::Histogram(Bounds::Fine) => "histogram, fine",
        Kind::Histogram(Bounds::Coarse) => "histogram, coarse",
        _ => family.type_name(),
    }
}

fn labels(family: &Family) -> String {
    let process = matches!(family.read, Read::Process(_)).then_some("*process*".to_owned());
    let own = family.labels.iter().map(|label| format!("`{label}`"));
    process.into_iter().chain(own).collect::<Vec<_>>().join(", ")
}
