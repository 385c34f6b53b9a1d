//! What the user asked of one capture, in plain types: the command line, the environment and later the
//! configuration file all end here.

use std::{ffi::OsString, path::PathBuf, time::Duration};

pub use crate::output::options::{Chatter, Format, SplitBy};
use crate::output::options::{Progress, RenderOptions};
use crate::plan::Mode;

/// One capture, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachOptions {
    /// Which process.
    pub target: TargetSelector,
    /// Length of the capture; `None`: until a signal, or until the target ends.
    pub duration: Option<Duration>,
    /// Which mode; `None`: `auto`, that is `sampled` where it can be had and `passive` where not.
    pub mode: Option<Mode>,
    /// In what form the result is written.
    pub format: Format,
    /// Where the result is written; `None`: stdout.
    pub output: Option<PathBuf>,
    /// Write what was added in each period of this length as well.
    pub interval: Option<Duration>,
    /// Write each wait of at least this length as it ends.
    pub slower: Option<Duration>,
    /// Split the histogram.
    pub by: Option<SplitBy>,
    /// Where the capture is recorded; `-`: stdout.
    pub record: Option<PathBuf>,
    /// Attach also where the kernel must single-step the probed instruction.
    pub force: bool,
    /// What `full` is to tell.
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

/// A command to run, and to trace from its execve on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// As whom it runs; `None`: the invoking user.
    pub user: Option<String>,
    /// How many times, one after the other.
    pub repeat: u32,
    /// Trace also the starts of Go programs that it starts in turn.
    pub follow: bool,
    /// Stop tracing (not the command) after so long.
    pub duration: Option<Duration>,
    /// Trace its latencies from `main.main` on, too.
    pub latencies: Option<LatencyOptions>,
    /// How the result is written.
    pub output: OutputOptions,
}

/// Starts of a binary to wait for, whoever makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextOptions {
    /// The binary.
    pub exe: PathBuf,
    /// How many.
    pub starts: u64,
    /// By probes in every process that maps the binary, without holding any.
    pub whole_binary: bool,
    /// Stop waiting after so long.
    pub duration: Option<Duration>,
    /// How the result is written.
    pub output: OutputOptions,
}

/// What is wanted of the latencies of a command that we run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyOptions {
    /// As [`AttachOptions::mode`].
    pub mode: Option<Mode>,
    /// As [`AttachOptions::slower`].
    pub slower: Option<Duration>,
    /// As [`AttachOptions::by`].
    pub by: Option<SplitBy>,
}

/// A recording of which the result is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayOptions {
    /// The recording; `None`: stdin.
    pub file: Option<PathBuf>,
    /// As [`AttachOptions::format`].
    pub format: Format,
    /// As [`AttachOptions::output`].
    pub output: Option<PathBuf>,
    /// As [`AttachOptions::interval`].
    pub interval: Option<Duration>,
    /// As [`AttachOptions::by`].
    pub by: Option<SplitBy>,
    /// What goes to stderr besides the logs.
    pub chatter: Chatter,
}

/// How the result of a capture of starts is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputOptions {
    /// In what form.
    pub format: Format,
    /// Where; `None`: to stderr of `run`, else to stdout.
    pub path: Option<PathBuf>,
    /// Where the capture is recorded; `-`: stdout.
    pub record: Option<PathBuf>,
    /// Write what was added in each period of this length as well.
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

/// What is wanted of `full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullOptions {
    /// Each system call, too: two more probe hits.
    pub syscalls: bool,
    /// What Linux's scheduler does with the threads.
    pub threads: bool,
    /// Bytes of the ring buffer: a power of two within [`tracer_ebpf::full::RING_BYTES_RANGE`].
    pub ring_bytes: u32,
    /// Where goroutines block: so many different stacks are kept, within [`tracer_ebpf::stacks::STACKS_RANGE`].
    pub stacks: Option<u32>,
}

impl Default for FullOptions {
    fn default() -> Self {
        Self {
            syscalls: false,
            threads: true,
            ring_bytes: tracer_ebpf::full::DEFAULT_RING_BYTES,
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
