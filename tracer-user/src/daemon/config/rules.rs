//! The rules, `[[target]]`: which processes are watched at which tier.

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::{
    TargetRule, Tier, duration,
    mistake::Kind,
    pattern::Subject,
    suggest,
    value::{self, Written},
};

/// How many rules one configuration can have.
pub const MOST: usize = 1_000;

/// One key of a rule.
#[derive(Debug)]
pub struct Key {
    /// Its name, such as `exe`.
    pub name: &'static str,
    /// What it means, for the documentation.
    pub help: &'static str,
    /// An example of a value, as it is written in a file.
    pub example: &'static str,
    set: fn(&mut TargetRule, Written<'_>) -> Result<(), String>,
    get: fn(&TargetRule) -> Option<Value>,
}

macro_rules! condition {
    ($name:ident, $subject:ident, $example:literal, $help:literal) => {
        Key {
            name: stringify!($name),
            help: $help,
            example: $example,
            set: |rule, written| {
                rule.$name = Some(value::pattern(written, Subject::$subject)?);
                Ok(())
            },
            get: |rule| rule.$name.clone().map(Value::from),
        }
    };
}

/// All keys of a rule, conditions first.
pub static KEYS: &[Key] = &[
    condition!(
        exe,
        Path,
        "\"/usr/bin/*\"",
        "Path of the executable, as the process sees it"
    ),
    condition!(
        comm,
        Comm,
        "\"caddy\"",
        "Name of the process, as in /proc/PID/comm: at most 15 bytes"
    ),
    condition!(cgroup, Path, "\"/system.slice/*\"", "Path of its cgroup"),
    condition!(container, Container, "\"3f9c*\"", "Id of its container"),
    condition!(
        pod,
        Pod,
        "\"0f8fad5b-d9cb-469f-a165-70867728950e\"",
        "UID of its Kubernetes pod"
    ),
    Key {
        name: "uid",
        help: "Effective user id, a number",
        example: "1000",
        set: |rule, written| {
            rule.uid = Some(value::uid(written)?);
            Ok(())
        },
        get: |rule| rule.uid.map(Value::from),
    },
    Key {
        name: "tier",
        help: "The highest tier: `off` leaves it alone; without it, as `tier.highest` says",
        example: "\"sampled\"",
        set: |rule, written| {
            rule.tier = Some(value::tier(written, &Tier::ALL)?);
            Ok(())
        },
        get: |rule| rule.tier.map(|tier| tier.name().into()),
    },
    Key {
        name: "window",
        help: "How long `exact` runs, which then becomes `sampled`; needed with it, and only with it",
        example: "\"30s\"",
        set: |rule, written| {
            rule.window = Some(value::time(written, super::WINDOW)?);
            Ok(())
        },
        get: |rule| rule.window.map(|window| duration::exact(window).into()),
    },
];

/// A mistake in a rule.
#[derive(Debug)]
pub struct RuleMistake {
    /// Its kind.
    pub kind: Kind,
    /// The key; empty if the rule as a whole is meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// Its byte offset in the file; `None` if it is at the beginning of the rule.
    pub at: Option<usize>,
}

/// Reads one `[[target]]`.
///
/// # Errors
/// Every mistake in it.
pub fn read(table: &DeTable<'_>) -> Result<TargetRule, Vec<RuleMistake>> {
    let (mut rule, mut wrong) = (TargetRule::default(), Vec::new());
    for (name, written) in table {
        let (name, at) = (name.get_ref().as_ref(), name.span().start);
        match KEYS.iter().find(|key| key.name == name) {
            Some(key) => {
                if let Err(message) = (key.set)(&mut rule, Written::Toml(written.get_ref())) {
                    wrong.push(RuleMistake {
                        kind: Kind::Value,
                        key: name.to_owned(),
                        message,
                        at: Some(written.span().start),
                    });
                }
            }
            None => {
                let names = || KEYS.iter().map(|key| key.name);
                let advice = suggest::nearest(name, names()).map_or_else(
                    || format!("it can have {}", names().collect::<Vec<_>>().join(", ")),
                    |meant| format!("did you mean `{meant}`?"),
                );
                wrong.push(RuleMistake {
                    kind: Kind::UnknownKey,
                    key: name.to_owned(),
                    message: format!("a [[target]] has no such key: {advice}"),
                    at: Some(at),
                });
            }
        }
    }
    if wrong.is_empty() {
        wrong.extend(check(&rule));
    }
    if wrong.is_empty() { Ok(rule) } else { Err(wrong) }
}

/// Checks a rule as a whole.
fn check(rule: &TargetRule) -> Option<RuleMistake> {
    let wrong = |key: &str, message: &str| {
        Some(RuleMistake {
            kind: Kind::Value,
            key: key.to_owned(),
            message: message.to_owned(),
            at: None,
        })
    };
    let TargetRule {
        exe,
        comm,
        cgroup,
        container,
        pod,
        uid,
        tier,
        window,
    } = rule;
    let patterns = [exe, comm, cgroup, container, pod];
    if patterns.iter().all(|pattern| pattern.is_none()) && uid.is_none() {
        return wrong(
            "",
            "it has no condition: write one of exe, comm, cgroup, container, pod and uid (exe = \"*\" matches all)",
        );
    }
    match (tier, window) {
        (Some(Tier::Exact), None) => wrong(
            "window",
            "`exact` needs a window, after which it becomes `sampled`: write as in window = \"30s\"",
        ),
        (Some(Tier::Exact), Some(_)) | (_, None) => None,
        (_, Some(_)) => wrong(
            "window",
            "only `exact` has a window: write tier = \"exact\", or leave it out",
        ),
    }
}

/// The values of a rule, in the order of [`KEYS`].
pub fn values(rule: &TargetRule) -> impl Iterator<Item = (&'static str, Value)> {
    KEYS.iter().filter_map(|key| Some((key.name, (key.get)(rule)?)))
}

/// The rules of a file, an array of tables, with their byte offsets. `None` if it is something else.
pub fn tables<'t, 'i>(value: &'t DeValue<'i>) -> Option<Vec<(&'t DeTable<'i>, usize)>> {
    let DeValue::Array(items) = value else {
        return None;
    };
    items
        .iter()
        .map(|item| match item.get_ref() {
            DeValue::Table(table) => Some((table, item.span().start)),
            _ => None,
        })
        .collect()
}
