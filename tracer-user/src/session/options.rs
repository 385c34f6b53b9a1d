//! The options of one capture, as plain types: what the command line and the environment are turned into.

use std::{ffi::OsString, path::PathBuf, time::Duration};

pub use crate::output::options::{Chatter, Format, SplitBy};
use crate::output::options::{Progress, RenderOptions};
use crate::plan::Mode;

/// Options of `attach`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachOptions {
    /// The process to trace.
    pub target: TargetSelector,
    /// Length of the capture; `None`: until a signal comes or the target ends.
    pub duration: Option<Duration>,
    /// The mode; `None`: `auto`, that is `sampled` where it is possible, otherwise `passive`.
    pub mode: Option<Mode>,
    /// Format of the result.
    pub format: Format,
    /// Where the result is written; `None`: stdout.
    pub output: Option<PathBuf>,
    /// Also write what was added in each period of this length.
    pub interval: Option<Duration>,
    /// Write each wait of at least this length as it ends.
    pub slower: Option<Duration>,
    /// What the histogram is split by.
    pub by: Option<SplitBy>,
    /// Where the capture is recorded; `-`: stdout.
    pub record: Option<PathBuf>,
    /// Whether the process has been running for a while, so that what it does without probes can be measured first.
    pub runs_already: bool,
    /// Attach also where the kernel must single-step the probed instruction.
    pub force: bool,
    /// How many times a second the scheduler's state is sampled; 0: never. `None`: as the mode suggests.
    pub sample_rate: Option<u32>,
    /// Options of the mode `full`.
    pub full: FullOptions,
    /// What goes to stderr besides the logs.
    pub chatter: Chatter,
}

impl AttachOptions {
    /// How the capture is printed.
    pub fn render(&self) -> RenderOptions {
        let has_lines = self.interval.is_some() || self.slower.is_some();
        RenderOptions {
            format: self.format,
            by: self.by,
            by_interval: self.interval.is_some(),
            chatter: self.chatter,
            progress: (self.chatter == Chatter::Normal && !has_lines)
                .then_some(self.duration.map_or(Progress::Endless, Progress::Of)),
        }
    }
}

/// Options of `run`: a command to run, and to trace from its execve on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// The user that it runs as; `None`: the invoking user.
    pub user: Option<String>,
    /// How many times it is run, one after the other.
    pub repeat: u32,
    /// Also trace the starts of the Go programs that it starts in turn.
    pub follow: bool,
    /// Stop tracing (not the command) after this time.
    pub duration: Option<Duration>,
    /// Also trace its latencies, from `main.main` on.
    pub latencies: Option<LatencyOptions>,
    /// How the result is written.
    pub output: OutputOptions,
}

/// Options of `attach --next`: starts of a binary to wait for, whoever makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextOptions {
    /// The binary.
    pub exe: PathBuf,
    /// How many starts are traced.
    pub starts: u64,
    /// Probe every process that maps the binary, and hold none.
    pub whole_binary: bool,
    /// Stop waiting after this time.
    pub duration: Option<Duration>,
    /// How the result is written.
    pub output: OutputOptions,
}

/// Options of the latencies of a command that we run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyOptions {
    /// See [`AttachOptions::mode`].
    pub mode: Option<Mode>,
    /// See [`AttachOptions::slower`].
    pub slower: Option<Duration>,
    /// See [`AttachOptions::by`].
    pub by: Option<SplitBy>,
}

/// Options of `replay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayOptions {
    /// The recording; `None`: stdin.
    pub file: Option<PathBuf>,
    /// See [`AttachOptions::format`].
    pub format: Format,
    /// See [`AttachOptions::output`].
    pub output: Option<PathBuf>,
    /// See [`AttachOptions::interval`].
    pub interval: Option<Duration>,
    /// See [`AttachOptions::by`].
    pub by: Option<SplitBy>,
    /// What goes to stderr besides the logs.
    pub chatter: Chatter,
}

/// How the result of a capture of starts is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputOptions {
    /// Format of the result.
    pub format: Format,
    /// Where it is written; `None`: to stderr by `run`, otherwise to stdout.
    pub path: Option<PathBuf>,
    /// Where the capture is recorded; `-`: stdout.
    pub record: Option<PathBuf>,
    /// Also write what was added in each period of this length.
    pub interval: Option<Duration>,
    /// What goes to stderr besides the logs.
    pub chatter: Chatter,
}

impl OutputOptions {
    /// How the capture of starts is printed.
    pub fn render(&self) -> RenderOptions {
        RenderOptions {
            format: self.format,
            by: None,
            by_interval: self.interval.is_some(),
            chatter: self.chatter,
            progress: None,
        }
    }
}

/// Options of the mode `full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullOptions {
    /// Trace each system call: two more probe hits for one.
    pub syscalls: bool,
    /// Trace what Linux's scheduler does with the threads.
    pub threads: bool,
    /// Bytes of all ring buffers together: a power of two within [`tracer_ebpf::full::RING_BYTES_RANGE`]. `None`: as the
    /// number of CPUs suggests.
    pub ring_bytes: Option<u32>,
    /// Most stacks that are kept of where goroutines block, within [`tracer_ebpf::stacks::STACKS_RANGE`]; `None`: none
    /// is taken.
    pub stacks: Option<u32>,
}

impl Default for FullOptions {
    fn default() -> Self {
        Self {
            syscalls: false,
            threads: true,
            ring_bytes: None,
            stacks: None,
        }
    }
}

/// How the user named the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetSelector {
    /// By its id, in gmpscope's own PID namespace.
    Pid(u32),
    /// The one process that runs this executable.
    Exe(PathBuf),
    /// The one process whose main thread has this name (`/proc/PID/comm`, at most 15 bytes).
    Comm(String),
}
