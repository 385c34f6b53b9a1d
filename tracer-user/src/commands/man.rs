//! `gmpscope man [COMMAND]`.

use clap::CommandFactory;
use clap_mangen::Man;

use super::sink;
use crate::{
    cli::{Cli, ManArgs},
    error::{Error, Result},
};

/// Prints a manual page in roff.
///
/// # Errors
/// When there is no such command.
pub fn run(args: &ManArgs) -> Result<()> {
    let mut command = Cli::command();
    command.build();
    let command = match &args.command {
        None => command,
        Some(name) => command
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| Error::usage(format!("gmpscope has no command `{name}`: see gmpscope --help")))?,
    };
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(|cause| Error::failed(format!("cannot make the manual page: {cause}")))?;
    sink::print(&String::from_utf8_lossy(&page))
}
