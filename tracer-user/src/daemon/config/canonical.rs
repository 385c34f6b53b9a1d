//! Writes a configuration as TOML. Equal configurations have equal texts, so that a digest of the text identifies one.

use sha2::{Digest, Sha256};

use super::{Config, rules, table::SETTINGS, toml::toml_value};

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
