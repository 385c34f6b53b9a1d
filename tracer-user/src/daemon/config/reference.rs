//! What is made from the table of settings for people: the commented configuration file, and the tables of
//! docs/daemon-settings.md.

use super::{
    Config, FILE, FOLDER,
    rules::KEYS,
    table::{SETTINGS, Setting, TakesEffect},
};

/// A configuration file with every setting, each commented out and with its default.
pub fn file() -> String {
    let defaults = Config::default();
    let mut text = format!(
        "# Settings of `gmpscope daemon`, for {FILE}. Each stands here with its default: take the\n\
         # `#` away and change it. Files of {FOLDER}/*.toml beside this one come after it, then GMPSCOPE_* variables\n\
         # and options of the command line; the last one wins.\n\
         #\n\
         # `gmpscope config check` finds mistakes, `gmpscope config show` shows what is in force and where it comes\n\
         # from. A change is read by itself, or on SIGHUP; a file with a mistake changes nothing.\n"
    );
    let mut group = "";
    for setting in SETTINGS {
        if group != setting.group() {
            group = setting.group();
            text += &format!("\n[{group}]\n");
        }
        text += &format!("# {}{}.\n", setting.help, remark(setting));
        text += &format!("#{} = {}\n", setting.key(), setting.toml(&defaults));
    }
    text += "\n# Which processes are watched with what. The first [[target]] whose conditions all hold decides; patterns\n\
             # have `*` (any characters, also none) and `?` (one).\n#\n";
    for key in KEYS {
        text += &format!("# {:<10} {}.\n", key.name, key.help);
    }
    text + "#\n#[[target]]\n#exe = \"/usr/local/bin/*\"\n#tier = \"sampled\"\n"
}

/// What is allowed, and whether a change needs a restart.
fn remark(setting: &Setting) -> String {
    let restart = match setting.effect {
        TakesEffect::Reload => "",
        TakesEffect::Restart => "; a change needs a restart",
    };
    format!(" ({}{restart})", setting.allowed())
}

/// The settings as a table of Markdown.
pub fn settings_table() -> String {
    let defaults = Config::default();
    let mut text = String::from(
        "| setting | default | allowed | a change takes effect | meaning |\n|---|---|---|---|---|\n",
    );
    for setting in SETTINGS {
        let effect = match setting.effect {
            TakesEffect::Reload => "with the reload",
            TakesEffect::Restart => "with a restart",
        };
        text += &format!(
            "| `{}` | `{}` | {} | {effect} | {} |\n",
            setting.name,
            setting.toml(&defaults),
            setting.allowed(),
            setting.help,
        );
    }
    text
}

/// The keys of `[[target]]` as a table of Markdown.
pub fn rules_table() -> String {
    let rows = KEYS
        .iter()
        .map(|key| format!("| `{} = {}` | {} |\n", key.name, key.example, key.help));
    format!("| key | meaning |\n|---|---|\n{}", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::daemon::config::{Files, Layers, load};

    const HOW: &str = "GMPSCOPE_UPDATE_DOCS=1 cargo test -p tracer-user settings_reference";

    /// Compares what is committed with what the table says, or writes it.
    fn compare(path: &Path, text: &str) {
        if std::env::var_os("GMPSCOPE_UPDATE_DOCS").is_some() {
            fs::write(path, text).unwrap();
        } else {
            let there = fs::read_to_string(path).unwrap_or_default();
            assert!(
                there == text,
                "{} is not what the table says: {HOW}",
                path.display()
            );
        }
    }

    /// `document` with what stands between the two marks of `name` replaced.
    fn replaced(document: &str, name: &str, table: &str) -> String {
        let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
        let (before, rest) = document.split_once(&begin).expect(&begin);
        let (_, after) = rest.split_once(&end).expect(&end);
        format!("{before}{begin}\n{}\n{end}{after}", table.trim())
    }

    #[test]
    fn the_settings_reference_is_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        compare(&root.join("packaging/config.toml"), &file());
        let path = root.join("docs/daemon-settings.md");
        let document = fs::read_to_string(&path).unwrap();
        let document = replaced(&document, "settings", &settings_table());
        compare(&path, &replaced(&document, "rules", &rules_table()));
    }

    #[test]
    fn the_commented_file_says_the_defaults_with_and_without_its_comment_signs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            load(&Layers {
                files: Files::These(vec![path.clone()]),
                ..Layers::default()
            })
            .unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}"))
        };
        let commented = file();
        assert_eq!(*read(&commented).config, Config::default());
        let settings: String = commented
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') && rest.contains(['=', '[']) => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let mut config = (*read(&settings).config).clone();
        assert_eq!(config.target.len(), 1);
        config.target.clear();
        assert_eq!(config, Config::default());
        for setting in SETTINGS {
            assert!(
                settings.contains(&format!("\n{} = ", setting.key())),
                "{}",
                setting.name
            );
        }
    }

    #[test]
    fn every_example_of_a_rule_is_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        let pairs: String = KEYS
            .iter()
            .map(|key| format!("{} = {}\n", key.name, key.example))
            .collect();
        fs::write(
            &path,
            format!("[[target]]\n{}", pairs.replace("sampled", "exact")),
        )
        .unwrap();
        let layers = Layers {
            files: Files::These(vec![path]),
            ..Layers::default()
        };
        assert_eq!(load(&layers).unwrap().config.target.len(), 1);
    }
}
