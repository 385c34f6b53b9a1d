//! How a capture is written, as it was asked for.

use std::time::Duration;

/// The form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one object, or with an interval one object a line.
    Json,
}

/// What tells histograms apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitBy {
    /// How the goroutine became runnable: `exact`, `full`.
    Origin,
    /// The function with the `go` statement: `sampled`, `full`.
    CreationSite,
}

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Chatter {
    /// Errors only.
    Quiet,
    /// Notes, and a progress line on a terminal.
    #[default]
    Normal,
}

/// How a capture is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenderOptions {
    /// The form of the result.
    pub format: Format,
    /// What tells histograms apart.
    pub by: Option<SplitBy>,
    /// Whether intervals are written, too.
    pub by_interval: bool,
    /// What is said on stderr.
    pub chatter: Chatter,
    /// Whether a line on the terminal shows the progress of a capture of latencies.
    pub progress: Option<Progress>,
}

/// What the progress of a capture is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its length.
    Of(Duration),
    /// It ends when the user ends it.
    Endless,
}
