//! Parses values as they are written in a file, an environment variable or an option.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use toml::de::DeValue;

use super::{
    Tier,
    mistake::shortened,
    pattern::{self, Subject},
    share, suggest,
};
use crate::duration;

/// A value before it has a type.
#[derive(Clone, Copy, Debug)]
pub enum Written<'a> {
    /// In an option or an environment variable.
    Bare(&'a str),
    /// In a file.
    Toml(&'a DeValue<'a>),
}

impl<'a> Written<'a> {
    /// The text, if it is one.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Bare(text) => Some(text),
            Self::Toml(DeValue::String(text)) => Some(text),
            Self::Toml(_) => None,
        }
    }

    /// How it is shown in a message: short, and harmless on a terminal.
    pub fn shown(self) -> String {
        match self {
            Self::Bare(text) => format!("`{}`", shortened(text)),
            Self::Toml(value) => match value {
                DeValue::String(text) => format!("`{}`", shortened(text)),
                DeValue::Integer(number) => format!("`{}`", shortened(&number.to_string())),
                DeValue::Float(number) => format!("`{}`", shortened(number.as_str())),
                DeValue::Boolean(value) => format!("`{value}`"),
                DeValue::Datetime(_) => "a date".to_owned(),
                DeValue::Array(_) => "an array".to_owned(),
                DeValue::Table(_) => "a table".to_owned(),
            },
        }
    }
}

/// What is wrong with a value.
#[derive(Debug)]
pub struct Problem {
    /// What is wrong, and what is allowed.
    pub message: String,
    /// Its byte offset in the file, if that is not the beginning of the value.
    pub at: Option<usize>,
}

/// Parses an IP address with a port.
///
/// # Errors
/// It is something else. The message says what is allowed, as those of all functions here do.
pub fn address(written: Written<'_>) -> Result<SocketAddr, String> {
    written.text().and_then(|text| text.parse().ok()).ok_or_else(|| {
        format!(
            "{} is not an address: write IP:PORT, as in \"127.0.0.1:9435\" or \"[::1]:9435\"",
            written.shown()
        )
    })
}

/// Parses a whole number.
///
/// # Errors
/// It is something else, or out of range.
pub fn count(written: Written<'_>, range: RangeInclusive<u32>) -> Result<u32, String> {
    let allowed = format!(
        "whole numbers from {} to {} are allowed",
        range.start(),
        range.end()
    );
    let number = match written {
        Written::Bare(text) => text.parse::<i128>().ok(),
        Written::Toml(DeValue::Integer(number)) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
        Written::Toml(DeValue::String(_)) => {
            return Err(format!(
                "{} is a text: write the number without quotes; {allowed}",
                written.shown()
            ));
        }
        Written::Toml(_) => None,
    };
    let number = number.ok_or_else(|| format!("{} is not a whole number: {allowed}", written.shown()))?;
    u32::try_from(number)
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{} is out of range: {allowed}", written.shown()))
}

/// Parses `true` or `false`.
///
/// # Errors
/// The value is something else, or in quotes.
pub fn switch(written: Written<'_>) -> Result<bool, String> {
    const ALLOWED: &str = "`true` and `false` are allowed";
    match written {
        Written::Toml(DeValue::Boolean(value)) => Ok(*value),
        Written::Bare("true") => Ok(true),
        Written::Bare("false") => Ok(false),
        Written::Toml(DeValue::String(text)) if matches!(&**text, "true" | "false") => Err(format!(
            "{} is a text: write it without quotes; {ALLOWED}",
            written.shown()
        )),
        _ => Err(format!("{} is not allowed: {ALLOWED}", written.shown())),
    }
}

/// Parses a duration.
///
/// # Errors
/// It is something else, or out of range.
pub fn time(written: Written<'_>, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let (shortest, longest) = (duration::exact(*range.start()), duration::exact(*range.end()));
    let Some(text) = written.text() else {
        return Err(match written {
            Written::Toml(DeValue::Integer(number)) => {
                format!("`{number}` has no unit: write \"{number}s\" for seconds")
            }
            _ => format!(
                "{} is not a duration: write a text, as in \"500ms\" or \"10s\"",
                written.shown()
            ),
        });
    };
    let duration = duration::parse(text).map_err(|_| {
        format!(
            "{} is not a duration: write as in \"500ms\", \"10s\" or \"2m\"",
            written.shown()
        )
    })?;
    if range.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!(
            "{} is out of range: {shortest} to {longest} are allowed",
            written.shown()
        ))
    }
}

/// Parses a share, 0 to 1.
///
/// # Errors
/// It is something else, or out of range.
pub fn share(written: Written<'_>) -> Result<f64, String> {
    let wrong = || {
        format!(
            "{} is not a share: write a percentage, as in \"0.5%\"",
            written.shown()
        )
    };
    match written {
        Written::Bare(text) => share::parse(text),
        Written::Toml(DeValue::String(text)) => share::parse(text),
        Written::Toml(DeValue::Float(number)) => number
            .as_str()
            .parse()
            .map_err(|_| wrong())
            .and_then(|share| share::check(share, number.as_str())),
        Written::Toml(_) => Err(wrong()),
    }
}

/// Parses a tier that is one of `allowed`.
///
/// # Errors
/// It is something else.
pub fn tier(written: Written<'_>, allowed: &[Tier]) -> Result<Tier, String> {
    let names: Vec<&str> = allowed.iter().map(|tier| tier.name()).collect();
    let text = written.text().unwrap_or_default();
    let found = Tier::ALL.into_iter().find(|tier| tier.name() == text);
    match found {
        Some(tier) if allowed.contains(&tier) => Ok(tier),
        Some(tier) => Err(format!(
            "`{}` is not allowed here, but in a [[target]] with a `window`: write one of {}",
            tier.name(),
            names.join(", ")
        )),
        None => {
            let meant = suggest::nearest(text, names.iter().copied())
                .map(|name| format!(" (did you mean `{name}`?)"))
                .unwrap_or_default();
            Err(format!(
                "{} is not a tier{meant}: write one of {}",
                written.shown(),
                names.join(", ")
            ))
        }
    }
}

/// Parses a user id.
///
/// # Errors
/// It is something else.
pub fn uid(written: Written<'_>) -> Result<u32, String> {
    // The last, (uid_t)-1, is not a user (setreuid(2)).
    count(written, 0..=u32::MAX - 1).map_err(|problem| format!("{problem}; users are known by number here"))
}

/// Parses a pattern.
///
/// # Errors
/// It is something else, or can never match.
pub fn pattern(written: Written<'_>, subject: Subject) -> Result<String, String> {
    let text = written.text().ok_or_else(|| {
        format!(
            "{} is not a pattern: write a text, as in \"{}\"",
            written.shown(),
            subject.example()
        )
    })?;
    pattern::check(text, subject)
}

/// Parses patterns: an array in a file, else separated by commas.
///
/// # Errors
/// What is wrong with each of them.
pub fn patterns(written: Written<'_>, subject: Subject) -> Result<Vec<String>, Vec<Problem>> {
    let items: Vec<(Written<'_>, Option<usize>)> = match written {
        Written::Bare("") => Vec::new(),
        Written::Bare(text) => text
            .split(',')
            .map(|item| (Written::Bare(item.trim()), None))
            .collect(),
        Written::Toml(DeValue::Array(items)) => items
            .iter()
            .map(|item| (Written::Toml(item.get_ref()), Some(item.span().start)))
            .collect(),
        Written::Toml(_) => {
            return Err(vec![Problem {
                message: format!(
                    "{} is not an array: write as in [\"{}\"]",
                    written.shown(),
                    subject.example()
                ),
                at: None,
            }]);
        }
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (item, at) in items {
        match pattern(item, subject) {
            Ok(item) => good.push(item),
            Err(message) => bad.push(Problem { message, at }),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}
