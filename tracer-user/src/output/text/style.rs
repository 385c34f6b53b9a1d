//! Options of the text.

use crate::output::options::SplitBy;

/// Options of the text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// What histograms are split by.
    pub by: Option<SplitBy>,
    /// Whether to use terminal colours; see [`wants_colour`].
    pub colour: bool,
}

/// Whether to use colours: on a terminal, unless `NO_COLOR` is set to something or `TERM` is `dumb`.
pub fn wants_colour(is_terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    is_terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}
