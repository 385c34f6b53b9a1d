//! The sections of `--help` and of the manual that clap does not make. At most 80 columns.

mod daemon;

pub use daemon::{
    CONFIG_ABOUT, CONFIG_CHECK_EXAMPLES, CONFIG_EXAMPLES, CONFIG_SHOW_EXAMPLES, DAEMON_ABOUT,
    DAEMON_EXAMPLES, config_check_sections, config_sections, config_show_sections, daemon_sections,
};

/// `gmpscope --help`, first words.
pub const ABOUT: &str = "\
How long the goroutines of a running Go program waited to run.

Attaches to a Go process that nobody prepared for it, from Go 1.19 on, stripped
or not, and prints the histogram of its scheduling latencies: the time from the
moment at which a goroutine could run to the moment at which it ran.";

/// `gmpscope -h`.
pub const MAIN_EXAMPLES: &str = "\
EXAMPLES
  gmpscope attach -p 4711 --duration 10s
  gmpscope run -- ./server
  gmpscope inspect /usr/bin/caddy
  gmpscope doctor

`gmpscope COMMAND --help` describes a command.";

/// `gmpscope attach --help`, first words.
pub const ATTACH_ABOUT: &str = "\
Trace a running process and print its scheduling latencies.

The process is neither stopped nor changed, and needs no preparation. Ctrl-C
ends the capture early and still prints it.";

/// `gmpscope attach -h`.
pub const ATTACH_EXAMPLES: &str = "\
EXAMPLES
  gmpscope attach -p 4711 --duration 10s
      Trace process 4711 for ten seconds, at the cost of `sampled` if that can
      be had, and print one histogram.
  gmpscope attach --comm caddy --mode passive --interval 1s
      A line per second until Ctrl-C, without a single probe.
  gmpscope attach -p 4711 -d 1m --slower 10ms --format json -o waits.json
      Also show each wait of 10 ms or more, with its goroutine; all as JSON.
  gmpscope attach -p 4711 -d 5s --mode exact --by origin
      Every wait, split by how the goroutine became runnable.
  gmpscope attach -p 4711 -d 5s --mode full
      Every transition: also why goroutines waited to run and behind whom, what
      they waited for, Ps, threads, churn.";

/// `--by` in `gmpscope attach --help`. The help wraps it.
pub const BY: &str = "\
Print one histogram for each origin (how the goroutine became runnable), creation \
site (the function of its go statement), cause (why it waited to run) or wait \
reason (what it had waited for before it could run). `full` has all of them; it \
always prints a table of the causes. What each cause means, and what to do about \
it, is in docs/causes.md.";

/// `gmpscope run --help`, first words.
pub const RUN_ABOUT: &str = "\
Run a command, and show where the time from execve to main.main goes.

The command is held before its execve until probes are attached; its standard
streams, environment, working directory and signals are passed through, and its
status is returned. The time of its main thread is parted into phases without
gap: the kernel's execve, the dynamic loader, the Go runtime's own steps, and
the init of each package.";

/// `gmpscope run -h`.
pub const RUN_EXAMPLES: &str = "\
EXAMPLES
  gmpscope run -- ./server --port 8080
      A timeline of the server's start, on stderr; the server runs on.
  gmpscope run --repeat 50 --format json -o starts.json -- ./tool --version
      Fifty starts: a histogram of each phase.
  gmpscope run --follow -- go build ./...
      How the go command, the compiler, the assembler and the linker start: a
      line for each, and the slowest starts as timelines.
  gmpscope attach --exe /usr/local/bin/tool --next 3
      The next three starts of that binary, whoever makes them.";

/// `gmpscope replay --help`, first words.
pub const REPLAY_ABOUT: &str = "\
Make the result of a recorded capture again.

What --record of attach and run has written goes through the same steps as a live
capture and gives the same result, to the byte of the JSON, on any machine:
neither the process nor its binary is needed. Form, split and intervals may be
others than those of the capture. The JSON of a capture can be replayed, too: as
text, with the intervals that it has.";

/// `gmpscope replay -h`.
pub const REPLAY_EXAMPLES: &str = "\
EXAMPLES
  gmpscope attach -p 4711 -d 10s --record waits.gmps
  gmpscope replay waits.gmps --format json
      What attach would have printed as JSON.
  gmpscope replay waits.gmps --interval 1s
      The same seconds, one by one.
  gmpscope replay waits.json
      What attach would have printed without --format json.";

/// What a traced start costs.
pub const RUN_OVERHEAD: &str = "\
OVERHEAD
  Some 30 probe hits until main.main and two for each package with an init,
  of about a microsecond each. Until then the kernel also looks, at every
  system call and every switch of a CPU on this host, whether it is the
  command's, which costs them some 0.1 microseconds. Behind main.main
  nothing is left attached. With --follow all this lasts until the command
  ends, and every execve on the host waits for one answer of gmpscope's,
  some 0.1 milliseconds. A Go program of the command's waits until its
  process is probed, some 10 milliseconds, where it is new some 20 to 90;
  that is reported, and is in no phase. None waits longer than 2 seconds. If
  gmpscope is killed, all that waits continues. Before a stop of the
  terminal's it lets all pass; under SIGSTOP or a debugger a process beside
  it, gmpscope-watch, does so after some 0.3 seconds, and the capture is not
  complete. It takes at least 128 file descriptors.";

/// What waiting for starts does to others.
pub const NEXT_OVERHEAD: &str = "\
STARTS OF OTHERS (--next)
  Each start of the binary waits some 10 milliseconds, 2 seconds at most, until its
  own process is probed; who executes anything else does not wait, and no other
  process is touched. A start that went on without its probes is counted, and the
  result is incomplete. With --whole-binary nobody waits, but the probes are in
  every process of the host that maps the file privately, also in those that only
  read it: git, linkers and checksums that read it by mmap see breakpoints (bytes
  0xCC) in it, and store them.";

/// What the exit status of `run` says.
pub const RUN_EXIT_STATUS: &str = "\
EXIT STATUS
  That of the command, 128 and more where a signal ended it; of several runs the
  first that is not 0. Before the command was started:
  125  gmpscope failed: not permitted, or the command is no Go program
  126  the command cannot be executed
  127  the command was not found
  2    wrong usage";

/// `gmpscope inspect -h`.
pub const INSPECT_EXAMPLES: &str = "\
EXAMPLES
  gmpscope inspect 4711
      What process 4711 is, which modes can be had, and how many probe hits a
      second each would cost it.
  gmpscope inspect --format json ./server
      The same of a file, which says what a cycle would cost.";

/// `gmpscope doctor -h`.
pub const DOCTOR_EXAMPLES: &str = "\
EXAMPLES
  gmpscope doctor
      What this kernel and these privileges allow, and what to do about the rest.
  gmpscope doctor --format json
      The same for programs, and to go with a report of a bug.";

/// `gmpscope completions -h`.
pub const COMPLETIONS_EXAMPLES: &str = "\
EXAMPLES
  gmpscope completions bash > /usr/share/bash-completion/completions/gmpscope
  gmpscope completions zsh > /usr/local/share/zsh/site-functions/_gmpscope
  gmpscope completions fish > ~/.config/fish/completions/gmpscope.fish";

/// `gmpscope man -h`.
pub const MAN_EXAMPLES: &str = "\
EXAMPLES
  gmpscope man | man -l -
  gmpscope man attach > /usr/local/share/man/man1/gmpscope-attach.1
  gmpscope man config show | man -l -";

/// What each mode costs.
pub const OVERHEAD: &str = "\
OVERHEAD
  A probe hit stops a thread of the traced process for 0.7 to 1.3 microseconds,
  and a switch of goroutines takes 0.1 to 0.2; so the number of hits is the cost.
  passive  no hit. The process is only read from outside.
  sampled  about one hit in 8 switches: some 1 to 2 % of the CPU time of a
           server, up to twice the CPU time of a program that does nothing but
           switch.
  exact    two hits per switch: half as much CPU time again in a busy server,
           and some 15 times as much in a program that does nothing but switch.
           The latencies themselves grow with it.
  full     three hits per switch, with --syscalls two more per system call; and
           on every switch of a CPU of this host the kernel looks whether the
           thread is the process's, some 0.1 microseconds (not with --no-threads).
           With --stacks the hit of a goroutine that blocks takes some 0.5
           microseconds more, by the depth of its stack.
  Each result says how many hits there were and what they cost on this machine.
  Try it where it does not matter first.";

/// What the exit status says.
pub const EXIT_STATUS: &str = "\
EXIT STATUS
  0  done
  1  failed, or nobody took the result
  2  wrong usage, or several processes match
  3  the target cannot be traced: not Go, gone before we started, unsupported
  4  not enough privilege, or the kernel lacks a feature
  5  captured, but incomplete: events lost, the target ended early, lines of the
     output dropped since nobody read them, or the recording could not be
     written whole";

/// What output and signals do to a capture, of `attach`.
const OUTPUT_AND_SIGNALS: &str = "\
OUTPUT
  Nobody who reads holds up a capture: its probes go when its time is over, and
  lines of --interval and --slower that their reader leaves lying, more than 2
  MiB of them, are dropped and counted. The result waits for its reader.
  A file of -o or --record keeps its mode and owner, and is for you alone if it
  is new. The result replaces what is in it at the end, whole or not at all;
  with lines, or recorded, it fills as they come.

SIGNALS
  INT, TERM, HUP, QUIT
      The first ends the capture and prints it; if nobody takes the result
      within five seconds more, gmpscope ends with status 1. The second ends
      gmpscope at once.";

/// The same of `run`.
const RUN_SIGNALS: &str = "\
SIGNALS
  They are passed on to the command. INT, TERM, HUP and QUIT also end --repeat:
  the run that is on is the last. A command that has not ended two seconds after
  another of them, which comes a second or more after the first, is left alone,
  and gmpscope ends with 128 and the signal's number; a HUP that a process sends
  is not taken for another one, since it may only want the command to read its
  settings. When the command has ended, its status is returned though nobody
  reads the result: after a signal it is waited for no longer than five seconds.";

/// Variables of the environment.
pub const ENVIRONMENT: &str = "\
ENVIRONMENT
  GMPSCOPE_DURATION, GMPSCOPE_MODE, GMPSCOPE_FORMAT, GMPSCOPE_INTERVAL,
  GMPSCOPE_SLOWER, GMPSCOPE_BY
      Values of the options of the same names; the command line wins.
  NO_COLOR
      If set and not empty, no colours.";

/// What it needs.
pub const PRIVILEGES: &str = "\
PRIVILEGES
  Root has all that is needed. Else passive needs CAP_SYS_PTRACE (or to be the
  same user as the process, where yama allows it); sampled and exact need
  CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE, and where the kernel has no working
  uprobe_multi (before 6.6) CAP_SYS_ADMIN. `gmpscope doctor` checks them.
  run --follow and attach --next need CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH and a
  kernel with fanotify's permission events (CONFIG_FANOTIFY_ACCESS_PERMISSIONS);
  attach --next --whole-binary does without.";

/// Files that are read; for the manual.
pub const FILES: &str = "\
FILES
  /proc/PID/exe, /proc/PID/maps, /proc/PID/root
      What the process runs, and where it lies in memory. A binary that was
      replaced on disk, or is in a container, is found all the same.
  /sys/bus/event_source/devices/uprobe/type
      Whether the kernel has uprobes.
  Nothing is written but the files named by -o and --record.";

/// Other pages and tools; for the manual.
pub const SEE_ALSO: &str = "\
SEE ALSO
  bpftrace(8), runqlat(8) (of bcc, for operating-system threads), perf-sched(1),
  and in a Go program itself runtime/metrics (/sched/latencies:seconds) and
  runtime/trace.";

/// `gmpscope --help`, last words.
pub fn main_sections() -> String {
    [MAIN_EXAMPLES, OVERHEAD, PRIVILEGES, EXIT_STATUS, ENVIRONMENT].join("\n\n")
}

/// `gmpscope attach --help`, last words.
pub fn attach_sections() -> String {
    [
        ATTACH_EXAMPLES,
        OVERHEAD,
        NEXT_OVERHEAD,
        PRIVILEGES,
        OUTPUT_AND_SIGNALS,
        EXIT_STATUS,
        ENVIRONMENT,
    ]
    .join("\n\n")
}

/// `gmpscope run --help`, last words.
pub fn run_sections() -> String {
    [
        RUN_EXAMPLES,
        RUN_OVERHEAD,
        PRIVILEGES,
        RUN_SIGNALS,
        RUN_EXIT_STATUS,
        ENVIRONMENT,
    ]
    .join("\n\n")
}

/// `gmpscope replay --help`, last words.
pub fn replay_sections() -> String {
    [
        REPLAY_EXAMPLES,
        "\
EXIT STATUS
  0  done
  1  failed: neither a recording nor a capture, or in a version that is not known
  2  wrong usage
  5  the capture was incomplete, or the recording is cut off: what there is was
     shown",
    ]
    .join("\n\n")
}

/// `gmpscope inspect --help`, last words.
pub fn inspect_sections() -> String {
    [
        INSPECT_EXAMPLES,
        "\
OVERHEAD
  None: nothing is attached. Of a process two readings of its counters are taken,
  one second apart.",
        EXIT_STATUS,
    ]
    .join("\n\n")
}

/// `gmpscope doctor --help`, last words.
pub fn doctor_sections() -> String {
    [
        DOCTOR_EXAMPLES,
        "\
EXIT STATUS
  0  all modes are possible here
  4  sampled and exact are not possible here",
    ]
    .join("\n\n")
}
