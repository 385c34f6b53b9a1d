//! `gmpscope completions SHELL`.

use clap::CommandFactory;

use super::print;
use crate::{
    cli::{Cli, CompletionsArgs},
    error::{Error, Result},
};

/// Prints the completions for one shell.
///
/// # Errors
/// stdout cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gmpscope", &mut text);
    let text = String::from_utf8(text).map_err(|cause| {
        Error::failed(format!(
            "the completions for {} are not UTF-8: {cause}",
            args.shell
        ))
    })?;
    print(&text)
}
