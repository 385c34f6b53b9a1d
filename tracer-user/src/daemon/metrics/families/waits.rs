//! How long goroutines waited to run, and how programs started.

use super::{Family, Kind, Read};
use crate::daemon::metrics::{
    bounds::Bounds,
    sample::{Put, Value},
};

/// How long goroutines waited to run.
pub const WAITS: &[Family] = &[
    Family {
        name: "gmpscope_sched_latencies_seconds",
        kind: Kind::Histogram(Bounds::Fine),
        unit: Some("seconds"),
        help: "Time that goroutines could run and did not, as the Go runtime itself samples it (about one wait in \
               eight; /sched/latencies:seconds), since the daemon found the process. _sum is an estimate: the runtime \
               keeps none, so each wait counts with the middle of its bucket, at most 12.5 % off. Of Go up to 1.25 \
               zeros are left out, see gmpscope_sched_latencies_excluded_total.",
        labels: &[],
        read: Read::Process(|process, samples| {
            if let Some(waits) = &process.target.runtime_waits {
                samples.put(&[], Value::Waits(waits));
            }
        }),
    },
    Family {
        name: "gmpscope_sched_latencies_excluded_total",
        kind: Kind::Counter,
        unit: None,
        help: "Entries of the runtime's histogram that are not waits, and are not in gmpscope_sched_latencies_seconds: \
               zeros that Go up to 1.25 counts when a stack grows, a system call returns or the GC scans.",
        labels: &[],
        read: Read::Process(|process, samples| {
            if let Some(waits) = &process.target.runtime_waits {
                samples.put(&[], Value::Count(waits.excluded_zero()));
            }
        }),
    },
    Family {
        name: "gmpscope_sampled_latencies_seconds",
        kind: Kind::Histogram(Bounds::Coarse),
        unit: Some("seconds"),
        help: "Waits Runnable to Running that were measured in tier sampled (those that the runtime samples, about one \
               in eight), by the function whose go statement made the goroutine. At most metrics.creation_sites of a \
               process have series of their own, the rest is other.",
        labels: &["creation_site"],
        read: Read::Process(|process, samples| {
            for (site, waits) in process.sites.into_iter().flatten() {
                samples.put(&[("creation_site", site)], Value::Waits(waits));
            }
        }),
    },
    Family {
        name: "gmpscope_exact_latencies_seconds",
        kind: Kind::Histogram(Bounds::Fine),
        unit: Some("seconds"),
        help: "Every wait Runnable to Running while the process was in tier exact, by how the goroutine became \
               runnable.",
        labels: &["origin"],
        read: Read::Process(|process, samples| {
            for (origin, waits) in &process.target.exact_waits {
                samples.put(&[("origin", origin.name())], Value::Waits(waits));
            }
        }),
    },
    Family {
        name: "gmpscope_runnable_seconds_total",
        kind: Kind::Counter,
        unit: Some("seconds"),
        help: "Time that all goroutines together could run and did not, by cause (docs/causes.md), \
               estimated from samples of the scheduler's state. Each stands for the time since the one \
               before, but for no more than twice the time that was planned. Of a process that has something to \
               run there are some four a second, fewer where there are more than 15 of those (60 a second of \
               all together) or a sample costs much. Any other is sampled at the readings of its memory \
               alone, so that a sample stands for tier.passive_interval: a burst that it meets counts with \
               all of that and one between two readings with nothing, which is right on average; but where \
               a process stays busy from then on, half of that is too much. The rate is the mean number of \
               goroutines that wait, of very many processes and of rare bursts only over minutes.",
        labels: &["cause"],
        read: Read::Process(|process, samples| {
            let runnable = process.target.runnable.iter();
            for (cause, ns) in runnable.flat_map(|runnable| &runnable.by_cause_ns) {
                samples.put(&[("cause", cause.name())], Value::Number(*ns as f64 / 1e9));
            }
        }),
    },
    Family {
        name: "gmpscope_runnable_some_seconds_total",
        kind: Kind::Counter,
        unit: Some("seconds"),
        help: "Time in which at least one goroutine could run and did not, estimated from the same samples. The rate is \
               the share of time in which something was stalled, like `some` of Linux's pressure stall information.",
        labels: &[],
        read: Read::Process(|process, samples| {
            if let Some(runnable) = &process.target.runnable {
                samples.put(&[], Value::Number(runnable.some_ns as f64 / 1e9));
            }
        }),
    },
];

/// How programs started.
pub const STARTS: &[Family] = &[
    Family {
        name: "gmpscope_init_phase_seconds",
        kind: Kind::Histogram(Bounds::Coarse),
        unit: Some("seconds"),
        help: "Time of each phase of the starts of the binaries that init.include names, from the entry of execve to \
               main.main; phase total is all of it. Starts that never reached main.main are not in it. The 50 \
               slowest package inits of a binary's first starts have series of their own, the rest is init:other.",
        labels: &["exe", "phase"],
        read: Read::Host(|host, samples| {
            for (exe, starts) in host.starts {
                for (phase, times) in &starts.phases {
                    samples.put(&[("exe", exe), ("phase", phase)], Value::Waits(times));
                }
            }
        }),
    },
    Family {
        name: "gmpscope_starts_total",
        kind: Kind::Counter,
        unit: None,
        help: "Starts of the binaries that init.include names: completed reached main.main, failed ended before, \
               missed were held for their probes and continued without them.",
        labels: &["exe", "result"],
        read: Read::Host(|host, samples| {
            for (exe, starts) in host.starts {
                let results = [
                    ("completed", starts.completed),
                    ("failed", starts.failed),
                    ("missed", starts.missed),
                ];
                for (result, count) in results {
                    samples.put(&[("exe", exe), ("result", result)], Value::Count(count));
                }
            }
        }),
    },
];
