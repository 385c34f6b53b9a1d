//! Arguments of `attach`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use tracer_ebpf::{full::RING_BYTES_RANGE, stacks::STACKS_RANGE};

use super::{
    Verbosity, help,
    output::{IntervalArgs, ResultArgs},
    sampling::SamplingArgs,
};
use crate::{
    duration,
    error::{Error, Result},
    escape::Untrusted,
    plan::Mode,
    session::options::{
        AttachOptions, FullOptions, LatencyOptions, NextOptions, OutputOptions, SplitBy, TargetSelector,
    },
};

/// `gmpscope attach`.
#[derive(Debug, Args)]
#[command(
    after_help = help::ATTACH_EXAMPLES,
    after_long_help = help::attach_sections()
)]
pub struct AttachArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Wait for the next starts of the binary, whoever makes them: this many
    #[arg(
        long, value_name = "N", num_args = 0..=1, default_missing_value = "1",
        requires = "exe",
        conflicts_with_all = ["slower", "by", "force", "sample_rate"],
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    next: Option<u64>,
    /// With --next: hold no start, and probe the binary in every process of this
    /// host that maps it, also in those that only read it
    ///
    /// Without this, each start waits some 10 milliseconds until its own process
    /// is probed, which needs CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH, and nobody
    /// else is touched. With it, as long as gmpscope waits, the kernel puts
    /// breakpoints (on x86_64 bytes 0xCC) into every private mapping of the file,
    /// read-only ones too: whatever reads it by mmap (git, linkers, tools that
    /// take a checksum) sees them in place of what the file has, and may store
    /// that. Who writes over the file meanwhile may have the new program crash.
    #[arg(long, requires = "next")]
    whole_binary: bool,
    /// How long to trace; without it until Ctrl-C, or until the process ends
    #[arg(
        short, long, value_name = "TIME", value_parser = duration::positive,
        env = "GMPSCOPE_DURATION", hide_env_values = true
    )]
    duration: Option<Duration>,
    /// How to trace: what it costs the process, and what it shows
    #[arg(
        short,
        long,
        value_enum,
        default_value = "auto",
        env = "GMPSCOPE_MODE",
        hide_env_values = true
    )]
    mode: ModeArg,
    #[command(flatten)]
    result: ResultArgs,
    /// Record the capture into this file, too, from which `gmpscope replay` makes
    /// the same result; `-` is stdout
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    interval: IntervalArgs,
    /// Print each wait of at least this length as it ends (sampled: each such
    /// wait of the sample)
    #[arg(
        short, long, value_name = "TIME", value_parser = duration::positive,
        env = "GMPSCOPE_SLOWER", hide_env_values = true
    )]
    slower: Option<Duration>,
    /// Print one histogram per origin, creation site, cause or wait reason
    #[arg(long, value_enum, env = "GMPSCOPE_BY", hide_env_values = true, long_help = help::BY)]
    by: Option<ByArg>,
    /// Attach also where the kernel must single-step the probed instruction: each
    /// hit costs the process 10 to 14 times as much
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    full: FullArgs,
}

/// What only `--mode full` has.
#[derive(Debug, Args)]
struct FullArgs {
    /// With --mode full: show each system call, too, at two more hits for each
    #[arg(long, env = "GMPSCOPE_SYSCALLS", hide_env_values = true)]
    syscalls: bool,
    /// With --mode full: do not follow what Linux's scheduler does with the
    /// threads
    #[arg(long, env = "GMPSCOPE_NO_THREADS", hide_env_values = true)]
    no_threads: bool,
    /// With --mode full: size of the ring buffers in bytes, of all together, a power
    /// of two; k, M and G as suffixes. Each CPU has one of its own as far as each has
    /// 1M [default: 16M, or 2M for each CPU if that is more]
    #[arg(
        long, value_name = "SIZE", value_parser = ring_bytes,
        env = "GMPSCOPE_RING", hide_env_values = true
    )]
    ring: Option<u32>,
    /// With --mode full: show where goroutines block, by their stacks, at some more
    /// time for each; at most N different stacks
    #[arg(
        long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "8192",
        value_parser = clap::value_parser!(u32).range(stacks_range()),
        env = "GMPSCOPE_STACKS", hide_env_values = true
    )]
    stacks: Option<u32>,
}

/// Returns how many stacks may be asked for.
fn stacks_range() -> std::ops::RangeInclusive<i64> {
    let (least, most) = STACKS_RANGE;
    i64::from(least)..=i64::from(most)
}

impl From<FullArgs> for FullOptions {
    fn from(args: FullArgs) -> Self {
        Self {
            syscalls: args.syscalls,
            threads: !args.no_threads,
            ring_bytes: args.ring,
            stacks: args.stacks,
        }
    }
}

/// Parses the size of the ring buffers: `16M`, `65536`.
fn ring_bytes(text: &str) -> std::result::Result<u32, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (text.get(..text.len() - 1), 1 << 10),
        Some(b'm' | b'M') => (text.get(..text.len() - 1), 1 << 20),
        Some(b'g' | b'G') => (text.get(..text.len() - 1), 1 << 30),
        _ => (Some(text), 1),
    };
    let (least, most) = RING_BYTES_RANGE;
    let bytes = digits.and_then(|digits| digits.parse::<u32>().ok()?.checked_mul(unit));
    bytes
        .filter(|bytes| bytes.is_power_of_two() && (least..=most).contains(bytes))
        .ok_or_else(|| {
            format!(
                "a power of two from {}k to {}M is needed, as in 16M",
                least >> 10,
                most >> 20
            )
        })
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// The process with this id
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i64::from(PID_MAX)))]
    pid: Option<u32>,
    /// The process that runs this executable; if several do, they are listed
    #[arg(long, value_name = "PATH")]
    exe: Option<PathBuf>,
    /// The process of this name (as in ps -o comm); if several have it, they are
    /// listed
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    comm: Option<String>,
}

/// `PID_MAX_LIMIT` of Linux on 64-bit machines (include/linux/threads.h).
const PID_MAX: u32 = 4 * 1024 * 1024;

/// `--mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ModeArg {
    /// sampled where it can be had, else passive; says which and why
    Auto,
    /// No probe at all: reads the Go runtime's own histogram
    Passive,
    /// About one probe hit in 8 scheduling cycles
    Sampled,
    /// Two probe hits per scheduling cycle: every wait
    Exact,
    /// Three probe hits per scheduling cycle: every transition of goroutines, Ps
    /// and Ms, with wait reasons
    Full,
}

impl From<ModeArg> for Option<Mode> {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Auto => None,
            ModeArg::Passive => Some(Mode::Passive),
            ModeArg::Sampled => Some(Mode::Sampled),
            ModeArg::Exact => Some(Mode::Exact),
            ModeArg::Full => Some(Mode::Full),
        }
    }
}

/// `--by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ByArg {
    /// How the goroutine became runnable (needs --mode exact or full)
    Origin,
    /// The function of the goroutine's go statement (needs sampled or full)
    CreationSite,
    /// Why the goroutine waited to run (needs full)
    Cause,
    /// What the goroutine had waited for before (needs full)
    WaitReason,
}

impl From<ByArg> for SplitBy {
    fn from(by: ByArg) -> Self {
        match by {
            ByArg::Origin => SplitBy::Origin,
            ByArg::CreationSite => SplitBy::CreationSite,
            ByArg::Cause => SplitBy::Cause,
            ByArg::WaitReason => SplitBy::WaitReason,
        }
    }
}

/// A request to `attach`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachRequest {
    /// Trace a process that is running.
    Running(AttachOptions),
    /// Trace the next starts of a binary.
    Next(NextOptions),
}

impl AttachArgs {
    /// Converts the arguments to a request: `--next` traces starts, everything else a process that is running.
    ///
    /// # Errors
    /// See [`Self::into_options`].
    pub fn into_request(self, verbosity: Verbosity) -> Result<AttachRequest> {
        let to_stdout = self.record.as_ref().is_some_and(|path| path.as_os_str() == "-");
        if to_stdout && self.result.is_stdout() {
            return Err(Error::usage(
                "--record - would mix the recording with the result: name a file for the result with -o",
            ));
        }
        check_distinct_files(self.record.as_ref(), self.result.file())?;
        let Some(starts) = self.next else {
            return self.into_options(verbosity).map(AttachRequest::Running);
        };
        if !matches!(self.mode, ModeArg::Auto) {
            return Err(Error::usage(
                "--next sees how programs start, and takes no --mode: attach to the process when it runs",
            ));
        }
        Ok(AttachRequest::Next(NextOptions {
            exe: self
                .target
                .exe
                .ok_or_else(|| Error::usage("--next needs --exe PATH"))?,
            starts,
            whole_binary: self.whole_binary,
            duration: self.duration,
            output: OutputOptions {
                format: self.result.format().into(),
                path: self.result.file().cloned(),
                record: self.record,
                interval: self.interval.interval,
                chatter: verbosity.chatter(),
            },
        }))
    }

    /// Converts the arguments to plain types.
    ///
    /// # Errors
    /// [`crate::error::Failure::Usage`] if two arguments contradict each other.
    pub fn into_options(self, verbosity: Verbosity) -> Result<AttachOptions> {
        let target = match (self.target.pid, self.target.exe, self.target.comm) {
            (Some(pid), None, None) => TargetSelector::Pid(pid),
            (None, Some(exe), None) => TargetSelector::Exe(exe),
            (None, None, Some(comm)) => TargetSelector::Comm(comm),
            _ => return Err(Error::usage("name the process by one of --pid, --exe and --comm")),
        };
        let LatencyOptions { mode, slower, by } = latencies(self.mode, self.slower, self.by)?;
        if self.full.syscalls && mode != Some(Mode::Full) {
            return Err(Error::usage(
                "--syscalls needs --mode full: no other mode traces system calls",
            ));
        }
        if self.full.stacks.is_some() && mode != Some(Mode::Full) {
            return Err(Error::usage(
                "--stacks needs --mode full: no other mode records where goroutines block",
            ));
        }
        Ok(AttachOptions {
            target,
            duration: self.duration,
            mode,
            format: self.result.format().into(),
            output: self.result.file().cloned(),
            interval: self.interval.interval,
            slower,
            by,
            record: self.record,
            runs_already: true,
            force: self.force,
            sample_rate: self.sampling.sample_rate,
            full: self.full.into(),
            chatter: verbosity.chatter(),
        })
    }
}

/// Checks that recording and result are not the same file: the result would replace the recording.
///
/// # Errors
/// [`crate::error::Failure::Usage`] if they are.
pub(super) fn check_distinct_files(record: Option<&PathBuf>, output: Option<&PathBuf>) -> Result<()> {
    let (Some(record), Some(output)) = (record, output) else {
        return Ok(());
    };
    // Neither needs to exist yet.
    let place = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    let real = |path: &Path| path.canonicalize().ok().or_else(|| place(path));
    // A terminal or /dev/null takes both.
    let takes_both = record.metadata().is_ok_and(|file| !file.is_file());
    if !takes_both && (record == output || real(record).is_some_and(|path| Some(path) == real(output))) {
        return Err(Error::usage(format!(
            "-o and --record name the same file, {}: name two",
            Untrusted::path(record)
        )));
    }
    Ok(())
}

/// Converts the options of latencies to plain types.
///
/// # Errors
/// [`crate::error::Failure::Usage`] if two arguments contradict each other.
pub(super) fn latencies(
    mode: ModeArg,
    slower: Option<Duration>,
    by: Option<ByArg>,
) -> Result<LatencyOptions> {
    let mode: Option<Mode> = mode.into();
    if slower.is_some() && mode == Some(Mode::Passive) {
        return Err(Error::usage(
            "--slower cannot be had in --mode passive, which reads counters and sees no single wait: use \
             --mode sampled or --mode exact",
        ));
    }
    let by = by.map(SplitBy::from);
    match (by, mode) {
        (Some(_), Some(Mode::Full)) => {}
        (Some(SplitBy::Origin), Some(Mode::Exact)) | (Some(SplitBy::CreationSite), Some(Mode::Sampled)) => {}
        (Some(SplitBy::CreationSite), None) | (None, _) => {}
        (Some(SplitBy::Origin), _) => {
            return Err(Error::usage(
                "--by origin needs --mode exact or full: no other mode sees how a goroutine became runnable",
            ));
        }
        (Some(SplitBy::CreationSite), Some(_)) => {
            return Err(Error::usage(
                "--by creation-site needs --mode sampled (or auto) or full",
            ));
        }
        (Some(SplitBy::Cause), _) => {
            return Err(Error::usage(
                "--by cause needs --mode full: passive and sampled only estimate the shares of causes",
            ));
        }
        (Some(SplitBy::WaitReason), _) => {
            return Err(Error::usage(
                "--by wait-reason needs --mode full: no other mode sees what goroutines wait for",
            ));
        }
    }
    Ok(LatencyOptions { mode, slower, by })
}
