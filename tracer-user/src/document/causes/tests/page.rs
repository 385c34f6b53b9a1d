//! docs/causes.md, which is made from the documentation of [`Cause`] and the text in `page.md`.

use std::collections::BTreeSet;
use std::fs;

use clap::{Command, CommandFactory};

use crate::cli::Cli;
use crate::model::sched::Cause;

const SOURCE: &str = include_str!("../../../model/sched/cause.rs");
const PAGE: &str = include_str!("page.md");
/// The tables that benchmarks write into the page, by the name in their marks.
const TABLES: [&str; 2] = ["cargo xtask bench causes", "cargo xtask bench rules"];
const HOW: &str = "GMPSCOPE_UPDATE_DOCS=1 cargo test -p tracer-user page_of_causes";

/// The variants of the enum with their documentation, in the order of the source.
fn documented() -> Vec<(&'static str, String)> {
    let (_, rest) = SOURCE.split_once("pub enum Cause {\n").unwrap();
    let (body, _) = rest.split_once("\n}\n").unwrap();
    let mut documented = Vec::new();
    let mut text = String::new();
    for line in body.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            text += doc.trim();
            text.push('\n');
        } else if let Some((variant, _)) = line.split_once(" = ") {
            documented.push((variant, std::mem::take(&mut text)));
        }
    }
    documented
}

/// The section about a cause, from its documentation: a paragraph that says what holds, then those that begin with
/// `Seen:`, `Means:` and `Try:`.
fn section(cause: Cause, text: &str) -> String {
    let paragraphs: Vec<&str> = text.trim().split("\n\n").collect();
    let [first, others @ ..] = paragraphs.as_slice() else {
        panic!("{cause:?} has no documentation");
    };
    let mut section = format!("### `{}`\n\n{first}\n\n", cause.name());
    let names = ["Seen:", "Means:", "Try:"];
    assert_eq!(
        others.len(),
        names.len(),
        "{cause:?} has other paragraphs than {names:?}"
    );
    for (name, paragraph) in names.iter().zip(others) {
        let said = paragraph
            .strip_prefix(*name)
            .unwrap_or_else(|| panic!("{cause:?}: a paragraph does not begin with {name}"));
        section += &format!("**{name}**{said}\n\n");
    }
    section
}

/// What is between the marks of `name`.
fn between<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("<!-- {name}: begin -->\n"))?;
    let (inside, _) = rest.split_once(&format!("<!-- {name}: end -->"))?;
    Some(inside)
}

/// The page, with the tables of benchmarks as they are in `there`.
fn page(there: &str) -> String {
    let causes = Cause::ALL.into_iter().zip(documented());
    let sections: String = causes.map(|(cause, (_, text))| section(cause, &text)).collect();
    let rows: String = Cause::ALL
        .iter()
        .map(|cause| format!("| `{}` | {} |\n", cause.name(), cause.phrase()))
        .collect();
    let table = format!("| cause | in the answer |\n|---|---|\n{}", rows.trim_end());
    let mut page = PAGE.replace("{TABLE}", &table).replace("{CAUSES}\n", &sections);
    for name in TABLES {
        let begin = format!("<!-- {name}: begin -->\n");
        assert!(between(PAGE, name).is_some(), "page.md has no marks of `{name}`");
        let measured = between(there, name).unwrap_or_default();
        page = page.replace(&begin, &format!("{begin}{measured}"));
    }
    page
}

#[test]
fn every_cause_has_its_documentation() {
    let variants: Vec<&str> = documented().iter().map(|(variant, _)| *variant).collect();
    let causes: Vec<String> = Cause::ALL.iter().map(|cause| format!("{cause:?}")).collect();
    assert_eq!(variants, causes);
}

#[test]
fn tables_of_benchmarks_stay_as_they_are() {
    let empty = page("");
    let (before, after) = empty
        .split_once("<!-- cargo xtask bench rules: begin -->\n")
        .unwrap();
    let measured = format!("{before}<!-- cargo xtask bench rules: begin -->\n| a | b |\n{after}");
    assert_eq!(page(&measured), measured);
    assert_ne!(measured, empty);
}

/// Adds the long options of a command and of those below it, without their hyphens.
fn add_options(command: &Command, options: &mut BTreeSet<String>) {
    let named = command.get_arguments().filter_map(|arg| arg.get_long());
    options.extend(named.map(str::to_owned));
    for below in command.get_subcommands() {
        add_options(below, options);
    }
}

/// The long options that a text names, without their hyphens.
fn named_options(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter_map(|word| word.strip_prefix("--"))
        .filter(|option| option.starts_with(|c: char| c.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_option_that_the_page_names_exists() {
    let mut options = BTreeSet::new();
    add_options(&Cli::command(), &mut options);
    let named = named_options(&page(""));
    assert!(named.contains("ring") && named.contains("syscalls"), "{named:?}");
    let unknown: Vec<&String> = named.difference(&options).collect();
    assert!(unknown.is_empty(), "gmpscope has no option {unknown:?}");
}

/// Compares the page with what is committed; writes it if GMPSCOPE_UPDATE_DOCS is set.
#[test]
fn the_page_of_causes_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/causes.md");
    let there = fs::read_to_string(path).unwrap_or_default();
    let page = page(&there);
    if std::env::var_os("GMPSCOPE_UPDATE_DOCS").is_some() {
        fs::write(path, page).unwrap();
        return;
    }
    assert!(there == page, "{path} is not what the causes say: {HOW}");
}
