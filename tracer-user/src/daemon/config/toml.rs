//! Writes a configuration as TOML. Equal configurations have equal texts, so that a digest of the text identifies one.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Config, rules, table::SETTINGS};
use crate::escape::is_dangerous;

impl Config {
    /// The configuration as one file, which reads back as it was: every setting in the order of the table, then the
    /// rules.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut group = "";
        for setting in SETTINGS {
            if group != setting.group() {
                group = setting.group();
                let gap = if text.is_empty() { "" } else { "\n" };
                text += &format!("{gap}[{group}]\n");
            }
            text += &format!("{} = {}\n", setting.key(), setting.toml(self));
        }
        for rule in &self.target {
            text += "\n[[target]]\n";
            for (name, value) in rules::values(rule) {
                text += &format!("{name} = {}\n", toml_value(&value));
            }
        }
        text
    }

    /// SHA-256 of [`Self::to_toml`], in hexadecimal digits.
    pub fn sha256(&self) -> String {
        let digest = Sha256::digest(self.to_toml().as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A value in one line of TOML.
pub fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_value).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(pairs) => {
            let pairs: Vec<String> = pairs
                .iter()
                .map(|(name, value)| format!("{name} = {}", toml_value(value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        // TOML has no null, and no setting is null.
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// A basic string (toml.io, version 1.0.0, "String").
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // TOML forbids control characters here; other dangerous characters are allowed, but not on a terminal.
            c if is_dangerous(c) => quoted += &format!("\\U{:08X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
