//! Options of how a capture is written.

use std::time::Duration;

/// The format of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one object, or with an interval one object a line.
    Json,
}

/// What histograms are split by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitBy {
    /// How the goroutine became runnable: `exact`, `full`.
    Origin,
    /// The function with the `go` statement: `sampled`, `full`.
    CreationSite,
    /// Why it waited to run: `full`.
    Cause,
    /// What it had waited for before it could run: `full`.
    WaitReason,
}

/// How much is written to stderr.
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
    /// The format of the result.
    pub format: Format,
    /// What histograms are split by.
    pub by: Option<SplitBy>,
    /// Whether intervals are written, too.
    pub by_interval: bool,
    /// How much is written to stderr.
    pub chatter: Chatter,
    /// The progress line of a capture of latencies; `None`: there is none.
    pub progress: Option<Progress>,
}

/// What a progress line compares the elapsed time with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The length of the capture.
    Of(Duration),
    /// Nothing: the user ends the capture.
    Endless,
}
