//! Reads one file: what it sets, and every mistake in it.

use std::{collections::BTreeSet, path::Path};

use toml::de::{DeTable, DeValue};

use super::{
    Config, TargetRule,
    mistake::{Kind, Mistake},
    origin::{Lines, Origin},
    rules, suggest,
    table::{self, SETTINGS},
    value::Written,
};

/// For how many unknown keys a known one is suggested.
const MAX_SUGGESTED: usize = 1_000;

/// What one file says. The values themselves are in the [`Config`] that it was read over.
#[derive(Debug, Default)]
pub struct Document {
    /// The settings that it has, with their places.
    pub set: Vec<(&'static str, Origin)>,
    /// Its rules, with their places.
    pub rules: Vec<(TargetRule, Origin)>,
    /// Every mistake, in the order of the text.
    pub mistakes: Vec<Mistake>,
}

/// A mistake at a byte offset. Finding its line and column takes time.
struct Raw {
    at: Option<usize>,
    kind: Kind,
    key: Option<String>,
    problem: String,
}

/// Reads `text`, the content of the file at `path`, over `config`.
pub fn read(path: &Path, text: &str, config: &mut Config) -> Document {
    let lines = Lines::of(text);
    let origin = |offset: usize| Origin::File {
        path: path.to_owned(),
        at: Some(lines.position(offset)),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    let broken: BTreeSet<usize> = errors
        .iter()
        .filter_map(|error| error.span())
        .map(|span| lines.line(span.start))
        .collect();
    let mut reader = Reader {
        config,
        set: Vec::new(),
        rules: Vec::new(),
        raw: Vec::new(),
    };
    reader.root(table.get_ref());
    let Reader {
        set, rules, mut raw, ..
    } = reader;
    // Of a line that is not TOML only that is reported.
    raw.retain(|raw| raw.at.is_none_or(|at| !broken.contains(&lines.line(at))));
    raw.extend(errors.iter().map(|error| syntax(error, text)));
    raw.sort_by_key(|raw| raw.at);
    let mistakes = raw.into_iter().enumerate().map(|(index, raw)| {
        // A hostile file may have a million mistakes: only the first are located.
        let at = raw.at.filter(|_| index <= super::mistake::MOST);
        let place = Origin::File {
            path: path.to_owned(),
            at: at.map(|offset| lines.position(offset)),
        };
        Mistake::new(raw.kind, &place, raw.key.as_deref(), &raw.problem)
    });
    Document {
        mistakes: mistakes.collect(),
        set: set.into_iter().map(|(name, at)| (name, origin(at))).collect(),
        rules: rules.into_iter().map(|(rule, at)| (rule, origin(at))).collect(),
    }
}

/// The mistake of a text that is not TOML. Of the text itself it contains no more than the name of a key.
fn syntax(error: &toml::de::Error, text: &str) -> Raw {
    let span = error.span();
    let what = error.message().trim_end_matches(", expected nothing");
    let is_duplicate = what == "duplicate key";
    let problem = if is_duplicate {
        "it is set before in the same file: leave one of the two".to_owned()
    } else if (what.contains("quoted") || what.starts_with("invalid")) && !what.contains("key") {
        format!("not TOML: {what} (texts stand in quotes, as in \"10s\", \"0.5%\")")
    } else {
        format!("not TOML: {what}")
    };
    Raw {
        at: span.as_ref().map(|span| span.start),
        kind: Kind::Syntax,
        key: span
            .filter(|_| is_duplicate)
            .and_then(|span| text.get(span))
            .map(str::to_owned),
        problem,
    }
}

struct Reader<'c> {
    config: &'c mut Config,
    set: Vec<(&'static str, usize)>,
    rules: Vec<(TargetRule, usize)>,
    raw: Vec<Raw>,
}

impl Reader<'_> {
    fn root(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            if name == "target" {
                self.targets(value.get_ref(), value.span().start);
            } else if SETTINGS.iter().any(|setting| setting.group() == name) {
                match value.get_ref() {
                    DeValue::Table(group) => self.group(name, group),
                    _ => self.wrong(
                        Some(at),
                        Kind::Value,
                        name,
                        format!("it is a table: write [{name}], and its settings below"),
                    ),
                }
            } else {
                self.unknown(name, at, value.get_ref());
            }
        }
    }

    fn group(&mut self, group: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{group}.{}", key.get_ref());
            let Some(setting) = table::find(&name) else {
                self.unknown(&name, key.span().start, value.get_ref());
                continue;
            };
            let begin = value.span().start;
            match setting.set(self.config, Written::Toml(value.get_ref())) {
                Ok(()) => self.set.push((setting.name, key.span().start)),
                Err(problems) => {
                    for problem in problems {
                        self.wrong(
                            problem.at.or(Some(begin)),
                            Kind::Value,
                            setting.name,
                            problem.message,
                        );
                    }
                }
            }
        }
    }

    fn targets(&mut self, value: &DeValue<'_>, at: usize) {
        let Some(tables) = rules::tables(value) else {
            let message = "rules are tables: write [[target]] before each".to_owned();
            return self.wrong(Some(at), Kind::Value, "target", message);
        };
        for (index, (table, at)) in tables.into_iter().enumerate() {
            if index >= rules::MOST {
                let message = format!("at most {} rules are allowed", rules::MOST);
                return self.wrong(Some(at), Kind::Value, "target", message);
            }
            match rules::read(table) {
                Ok(rule) => self.rules.push((rule, at)),
                Err(problems) => {
                    for problem in problems {
                        let name = format!("target.{}", problem.key);
                        let name = name.trim_end_matches('.');
                        self.wrong(problem.at.or(Some(at)), problem.kind, name, problem.message);
                    }
                }
            }
        }
    }

    fn unknown(&mut self, name: &str, at: usize, value: &DeValue<'_>) {
        let groups = SETTINGS.iter().map(|setting| setting.group());
        let names: Vec<&str> = match value {
            DeValue::Table(_) | DeValue::Array(_) if !name.contains('.') => {
                groups.chain(["target"]).collect()
            }
            _ => SETTINGS.iter().map(|setting| setting.name).collect(),
        };
        // Comparing takes time, and nobody reads a thousand suggestions.
        let names = if self.raw.len() < MAX_SUGGESTED {
            names
        } else {
            Vec::new()
        };
        let message = unknown(name, &names);
        self.wrong(Some(at), Kind::UnknownKey, name, message);
    }

    fn wrong(&mut self, at: Option<usize>, kind: Kind, key: &str, problem: String) {
        self.raw.push(Raw {
            at,
            kind,
            key: Some(key.to_owned()),
            problem,
        });
    }
}

/// The message about a name that is not one of `names`.
fn unknown(name: &str, names: &[&str]) -> String {
    let advice = suggest::nearest(name, names.iter().copied()).map_or_else(
        || "`gmpscope config show` lists all".to_owned(),
        |meant| format!("did you mean `{meant}`?"),
    );
    format!("there is no such setting: {advice}")
}
