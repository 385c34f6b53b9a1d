//! `gmpscope man [COMMAND]`: roff made by clap, and the sections that clap does not have.

use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use super::print;
use crate::{
    cli::{Cli, ManArgs, help},
    error::{Error, Result},
};

/// Prints a manual page.
///
/// # Errors
/// There is no such command.
pub fn run(args: &ManArgs) -> Result<()> {
    let names: Vec<&str> = args.command.iter().map(String::as_str).collect();
    print(&page(&names)?)
}

/// Returns the page of a command, which is named together with its parents, or of gmpscope as a whole.
fn page(names: &[&str]) -> Result<String> {
    let mut all = Cli::command();
    all.build();
    let mut command = &all;
    for name in names {
        command = command.find_subcommand(name).ok_or_else(|| {
            let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            let whole = command.get_bin_name().unwrap_or("gmpscope");
            Error::usage(match known.as_slice() {
                [] => format!("`{whole}` has no command `{name}`"),
                known => format!("`{whole}` has no command `{name}`; it has {}", known.join(", ")),
            })
        })?;
    }
    render(command.clone()).map_err(|cause| Error::failed(format!("cannot make the manual page: {cause}")))
}

fn render(command: Command) -> io::Result<String> {
    let is_whole = command.get_name() == "gmpscope";
    let under = command.get_bin_name().unwrap_or("gmpscope");
    let under = under
        .strip_prefix("gmpscope ")
        .map_or_else(String::new, |under| format!("{under} "));
    let after = command
        .get_after_long_help()
        .or(command.get_after_help())
        .map(ToString::to_string);
    let commands: Vec<(String, String)> = command
        .get_subcommands()
        .map(|sub| {
            (
                sub.get_name().to_string(),
                sub.get_about().map(ToString::to_string).unwrap_or_default(),
            )
        })
        .collect();
    let man = Man::new(command)
        .manual("gmpscope")
        .source(format!("gmpscope {}", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if !commands.is_empty() {
        command_list(&under, &commands).to_writer(&mut page)?;
    }
    let others = if is_whole {
        [help::FILES, help::SEE_ALSO].join("\n\n")
    } else {
        help::SEE_ALSO.to_string()
    };
    let text = [after.unwrap_or_default(), others].join("\n\n");
    sections(&text).to_writer(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn command_list(under: &str, commands: &[(String, String)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for (name, about) in commands {
        roff.control("TP", []);
        roff.text([roman(name.as_str())]);
        roff.text([roman(format!(
            "{about}; `gmpscope man {under}{name}` is its page"
        ))]);
    }
    roff
}

/// Converts sections of `--help` to roff: a heading is a line that is not indented; what follows is shown as it is.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut literal = false;
    for line in text.lines() {
        let is_heading = line.starts_with(|c: char| c.is_ascii_uppercase())
            && !line.contains(|c: char| c.is_ascii_lowercase());
        if is_heading {
            if std::mem::replace(&mut literal, true) {
                roff.control("fi", []);
            }
            roff.control("SH", [line]);
            roff.control("nf", []);
        } else {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
    }
    if literal {
        roff.control("fi", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    /// Returns the words that name each command, beginning with none for gmpscope itself.
    fn names(command: &Command, under: &[String]) -> Vec<Vec<String>> {
        let mut all = vec![under.to_vec()];
        for sub in command.get_subcommands() {
            let name = [under, &[sub.get_name().to_owned()]].concat();
            all.extend(names(sub, &name));
        }
        all
    }

    #[test]
    fn every_page_has_its_sections() {
        for (name, sections) in [
            (
                "",
                vec![
                    "NAME",
                    "COMMANDS",
                    "EXAMPLES",
                    "OVERHEAD",
                    "\"EXIT STATUS\"",
                    "FILES",
                    "\"SEE ALSO\"",
                ],
            ),
            (
                "attach",
                vec!["NAME", "OPTIONS", "EXAMPLES", "OVERHEAD", "\"EXIT STATUS\""],
            ),
            ("doctor", vec!["EXAMPLES", "\"EXIT STATUS\""]),
            (
                "daemon",
                vec!["EXAMPLES", "FILES", "SIGNALS", "ENVIRONMENT", "\"EXIT STATUS\""],
            ),
            ("config", vec!["COMMANDS", "EXAMPLES"]),
            ("config show", vec!["OPTIONS", "EXAMPLES"]),
        ] {
            let words: Vec<&str> = name.split_whitespace().collect();
            let page = page(&words).unwrap();
            for section in sections {
                assert!(
                    page.contains(&format!(".SH {section}\n")),
                    "{name} {section}: {page}"
                );
            }
        }
        for wrong in [
            &["nonsense"][..],
            &["config", "nonsense"],
            &["doctor", "nonsense"],
        ] {
            assert_eq!(page(wrong).unwrap_err().failure, Failure::Usage);
        }
    }

    #[test]
    fn no_line_of_text_is_taken_for_a_request() {
        let mut all = Cli::command();
        all.build();
        let every = names(&all, &[]);
        assert!(every.contains(&vec!["config".to_owned(), "show".to_owned()]));
        for name in every {
            let words: Vec<&str> = name.iter().map(String::as_str).collect();
            for line in page(&words)
                .unwrap()
                .lines()
                .filter(|line| line.starts_with(['.', '\'']))
            {
                let request: String = line
                    .chars()
                    .skip(1)
                    .take_while(char::is_ascii_alphabetic)
                    .collect();
                let known = [
                    "TH", "SH", "TP", "RS", "RE", "PP", "IP", "nf", "fi", "ie", "el", "br", "sp", "ad",
                ];
                assert!(known.contains(&request.as_str()), "{name:?}: {line}");
            }
        }
    }
}
