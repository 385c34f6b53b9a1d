//! `gmpscope man [COMMAND]`: what clap knows as roff, and the sections that it does not know.

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
/// When there is no such command.
pub fn run(args: &ManArgs) -> Result<()> {
    print(&page(args.command.as_deref())?)
}

/// The page of one command, or of gmpscope as a whole.
fn page(name: Option<&str>) -> Result<String> {
    let mut all = Cli::command();
    all.build();
    let command = match name {
        None => all.clone(),
        Some(name) => all.find_subcommand(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = all.get_subcommands().map(Command::get_name).collect();
            Error::usage(format!(
                "gmpscope has no command `{name}`; it has {}",
                known.join(", ")
            ))
        })?,
    };
    render(command).map_err(|cause| Error::failed(format!("cannot make the manual page: {cause}")))
}

fn render(command: Command) -> io::Result<String> {
    let is_whole = command.get_name() == "gmpscope";
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
    if is_whole {
        command_list(&commands).to_writer(&mut page)?;
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

fn command_list(commands: &[(String, String)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for (name, about) in commands {
        roff.control("TP", []);
        roff.text([roman(name.as_str())]);
        roff.text([roman(format!("{about}; `gmpscope man {name}` is its page"))]);
    }
    roff
}

/// Sections as in `--help`: a heading is a line that begins at the left; what follows is shown as it is.
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

    #[test]
    fn every_page_has_its_sections() {
        for (name, sections) in [
            (
                None,
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
                Some("attach"),
                vec!["NAME", "OPTIONS", "EXAMPLES", "OVERHEAD", "\"EXIT STATUS\""],
            ),
            (Some("doctor"), vec!["EXAMPLES", "\"EXIT STATUS\""]),
        ] {
            let page = page(name).unwrap();
            for section in sections {
                assert!(
                    page.contains(&format!(".SH {section}\n")),
                    "{name:?} {section}: {page}"
                );
            }
        }
        assert_eq!(page(Some("nonsense")).unwrap_err().failure, Failure::Usage);
    }

    #[test]
    fn no_line_of_text_is_taken_for_a_request() {
        let mut all = Cli::command();
        all.build();
        let names = all.get_subcommands().map(|sub| Some(sub.get_name()));
        for name in std::iter::once(None).chain(names) {
            for line in page(name)
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
