//! What was read from the memory of a Go runtime, and what the kernel reports about its process.

use std::collections::BTreeMap;

use super::{Family, Kind, Read, ScrapedProcess};
use crate::{
    daemon::metrics::{
        label::known,
        sample::{Put, Samples, Value},
    },
    stream::Snapshot,
};

/// The states of goroutines that are shown by name (`runtime/runtime2.go`, and `sources::passive`).
const G_STATES: [&str; 8] = [
    "idle",
    "runnable",
    "running",
    "syscall",
    "waiting",
    "copystack",
    "preempted",
    "leaked",
];
/// States of Ps.
const P_STATES: [&str; 5] = ["idle", "running", "syscall", "gcstop", "dead"];

/// The runtime of each process.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "gmpscope_goroutines",
        kind: Kind::Gauge,
        unit: None,
        help: "Live goroutines by state, in the runtime's words, those of the runtime itself included. An estimate from \
               a random sample where gmpscope_goroutines_estimated is 1. A state that gmpscope does not know is other.",
        labels: &["state"],
        read: Read::Process(|process, samples| {
            by_state(process, samples, &G_STATES, |gauges| &gauges.goroutines_by_state);
        }),
    },
    Family {
        name: "gmpscope_goroutines_estimated",
        kind: Kind::Gauge,
        unit: None,
        help: "1 where there are or have been so many goroutines that gmpscope_goroutines is an estimate from a random \
               sample of them, else 0. gmpscope_goroutines_live is not an estimate.",
        labels: &[],
        read: Read::Process(|process, samples| {
            gauge(process, samples, |gauges| {
                // None of a sample may live.
                let counted = !gauges.goroutines_by_state.is_empty() || gauges.goroutines_sampled;
                counted.then_some(u64::from(gauges.goroutines_sampled))
            });
        }),
    },
    Family {
        name: "gmpscope_goroutines_estimate_low",
        kind: Kind::Gauge,
        unit: None,
        help: "Where gmpscope_goroutines is an estimate: the lower end of the interval that the count of each state \
               lies in, in 95 of 100 samples.",
        labels: &["state"],
        read: Read::Process(|process, samples| ends(process, samples, |(_, low, _)| *low)),
    },
    Family {
        name: "gmpscope_goroutines_estimate_high",
        kind: Kind::Gauge,
        unit: None,
        help: "Where gmpscope_goroutines is an estimate: the upper end of that interval.",
        labels: &["state"],
        read: Read::Process(|process, samples| ends(process, samples, |(_, _, high)| *high)),
    },
    Family {
        name: "gmpscope_goroutines_live",
        kind: Kind::Gauge,
        unit: None,
        help: "Live goroutines by the runtime's own counters (as gcount adds them up), never an estimate: of=user is what \
               runtime.NumGoroutine returns, of=all includes those of the runtime itself and, in a program with cgo, gs \
               that wait for a callback from C. Absent where the layout of the runtime's structs is not known.",
        labels: &["of"],
        read: Read::Process(|process, samples| {
            let Some(gauges) = &process.target.gauges else {
                return;
            };
            for (of, count) in [("all", gauges.goroutines_live), ("user", gauges.goroutines_user)] {
                if let Some(count) = count {
                    samples.put(&[("of", of)], Value::Count(count));
                }
            }
        }),
    },
    Family {
        name: "gmpscope_run_queue_goroutines",
        kind: Kind::Gauge,
        unit: None,
        help: "Goroutines in the global run queue, and in those of all Ps together.",
        labels: &["queue"],
        read: Read::Process(|process, samples| {
            let Some(gauges) = &process.target.gauges else {
                return;
            };
            if let Some(length) = gauges.global_runq {
                samples.put(&[("queue", "global")], Value::Count(length));
            }
            if !gauges.local_runqs.is_empty() {
                let sum = gauges.local_runqs.iter().map(|length| u64::from(*length)).sum();
                samples.put(&[("queue", "local")], Value::Count(sum));
            }
        }),
    },
    Family {
        name: "gmpscope_run_queue_longest_goroutines",
        kind: Kind::Gauge,
        unit: None,
        help: "Goroutines in the longest run queue of a P.",
        labels: &[],
        read: Read::Process(|process, samples| {
            gauge(process, samples, |gauges| {
                gauges.local_runqs.iter().max().map(|length| u64::from(*length))
            });
        }),
    },
    Family {
        name: "gmpscope_processors",
        kind: Kind::Gauge,
        unit: None,
        help: "Ps by state, in the runtime's words.",
        labels: &["state"],
        read: Read::Process(|process, samples| {
            by_state(process, samples, &P_STATES, |gauges| &gauges.ps_by_state);
        }),
    },
    Family {
        name: "gmpscope_threads",
        kind: Kind::Gauge,
        unit: None,
        help: "Ms that have nothing to do: idle ones are parked, spinning ones look for work.",
        labels: &["state"],
        read: Read::Process(|process, samples| {
            let Some(gauges) = &process.target.gauges else {
                return;
            };
            for (state, count) in [("idle", gauges.idle_ms), ("spinning", gauges.spinning_ms)] {
                if let Some(count) = count {
                    samples.put(&[("state", state)], Value::Count(count.into()));
                }
            }
        }),
    },
    Family {
        name: "gmpscope_gomaxprocs",
        kind: Kind::Gauge,
        unit: None,
        help: "GOMAXPROCS: how many goroutines can run at once.",
        labels: &[],
        read: Read::Process(|process, samples| {
            gauge(process, samples, |gauges| gauges.gomaxprocs.map(u64::from));
        }),
    },
    Family {
        name: "gmpscope_stw_pauses_total",
        kind: Kind::Counter,
        unit: None,
        help: "Times that the runtime stopped the world since the process began, for the GC (gc) or something else \
               (other). Go 1.22 and newer.",
        labels: &["reason"],
        read: Read::Process(|process, samples| {
            let Some(gauges) = &process.target.gauges else {
                return;
            };
            if let Some((gc, other)) = gauges.stw_pauses {
                samples.put(&[("reason", "gc")], Value::Count(gc));
                samples.put(&[("reason", "other")], Value::Count(other));
            }
        }),
    },
    Family {
        name: "gmpscope_stw_seconds_total",
        kind: Kind::Counter,
        unit: Some("seconds"),
        help: "How long the world was stopped since the process began, from the request to stop it until the Ps were \
               given out again (the runtime's /sched/pauses/total). An estimate: each pause counts with the middle of \
               its bucket in the runtime's histogram, at most 12.5 % off. Go 1.22 and newer.",
        labels: &["reason"],
        read: Read::Process(|process, samples| {
            let Some(gauges) = &process.target.gauges else {
                return;
            };
            if let Some((gc, other)) = gauges.stw_total_ns {
                samples.put(&[("reason", "gc")], Value::Number(gc as f64 / 1e9));
                samples.put(&[("reason", "other")], Value::Number(other as f64 / 1e9));
            }
        }),
    },
    Family {
        name: "gmpscope_stw_stopping_seconds_total",
        kind: Kind::Counter,
        unit: Some("seconds"),
        help: "Of gmpscope_stw_seconds_total, the time until every P had stopped (the runtime's /sched/pauses/stopping). \
               An estimate likewise. Go 1.22 and newer.",
        labels: &["reason"],
        read: Read::Process(|process, samples| {
            let Some(gauges) = &process.target.gauges else {
                return;
            };
            if let Some((gc, other)) = gauges.stw_stopping_ns {
                samples.put(&[("reason", "gc")], Value::Number(gc as f64 / 1e9));
                samples.put(&[("reason", "other")], Value::Number(other as f64 / 1e9));
            }
        }),
    },
    Family {
        name: "gmpscope_gc_waiting",
        kind: Kind::Gauge,
        unit: None,
        help: "1 while the world is stopping or stopped, else 0.",
        labels: &[],
        read: Read::Process(|process, samples| {
            gauge(process, samples, |gauges| gauges.gc_waiting.map(u64::from));
        }),
    },
    Family {
        name: "gmpscope_last_poll_age_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        help: "Time since the runtime last polled the network; absent while a thread is blocked in the poll.",
        labels: &[],
        read: Read::Process(|process, samples| {
            let Some(gauges) = &process.target.gauges else {
                return;
            };
            if let Some(ns) = gauges.since_last_poll_ns {
                samples.put(&[], Value::Number(ns as f64 / 1e9));
            }
        }),
    },
    Family {
        name: "gmpscope_cgroup_cpu_limit",
        kind: Kind::Gauge,
        unit: None,
        help: "CPUs that the process's cgroup may use; absent where there is no limit.",
        labels: &[],
        read: Read::Process(|process, samples| {
            if let Some(cpus) = process.target.cgroup_cpus {
                samples.put(&[], Value::Number(cpus));
            }
        }),
    },
    Family {
        name: "gmpscope_cgroup_cpu_periods_total",
        kind: Kind::Counter,
        unit: None,
        help: "Periods in which something of the process's cgroup ran; throttled ones are those in which it used up \
               its quota, and counted here too.",
        labels: &["kind"],
        read: Read::Process(|process, samples| {
            if let Some(throttling) = &process.target.throttling {
                samples.put(&[("kind", "all")], Value::Count(throttling.periods));
                samples.put(
                    &[("kind", "throttled")],
                    Value::Count(throttling.throttled_periods),
                );
            }
        }),
    },
    Family {
        name: "gmpscope_cgroup_cpu_throttled_seconds_total",
        kind: Kind::Counter,
        unit: Some("seconds"),
        help: "Time that the process's cgroup was held back for its CPU quota, over all CPUs.",
        labels: &[],
        read: Read::Process(|process, samples| {
            if let Some(throttling) = &process.target.throttling {
                samples.put(&[], Value::Number(throttling.throttled.as_secs_f64()));
            }
        }),
    },
    Family {
        name: "gmpscope_target_cpu_seconds_total",
        kind: Kind::Counter,
        unit: Some("seconds"),
        help: "CPU time of the process since it started, user and system.",
        labels: &[],
        read: Read::Process(|process, samples| {
            samples.put(&[], Value::Number(process.target.cpu.as_secs_f64()));
        }),
    },
];

/// Exports one gauge of the last reading, if it is known.
fn gauge<'a>(process: &ScrapedProcess<'a>, samples: &mut Samples<'a>, read: fn(&Snapshot) -> Option<u64>) {
    if let Some(count) = process.target.gauges.as_ref().and_then(read) {
        samples.put(&[], Value::Count(count));
    }
}

/// Exports counts by state; those of unknown states are added up.
fn by_state<'a>(
    process: &ScrapedProcess<'a>,
    samples: &mut Samples<'a>,
    states: &[&str],
    read: fn(&'a Snapshot) -> &'a [(String, u64)],
) {
    let Some(gauges) = &process.target.gauges else {
        return;
    };
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (state, count) in read(gauges) {
        let sum = sums.entry(known(state, states)).or_default();
        *sum = sum.saturating_add(*count);
    }
    for (state, sum) in sums {
        samples.put(&[("state", state)], Value::Count(sum));
    }
}

/// Exports one end of the interval of each state. Intervals of states that are not known cannot be added up.
fn ends<'a>(process: &ScrapedProcess<'a>, samples: &mut Samples<'a>, end: fn(&(String, u64, u64)) -> u64) {
    let ranges = process.target.gauges.iter();
    for range in ranges.flat_map(|gauges| &gauges.goroutines_by_state_range) {
        if G_STATES.contains(&range.0.as_str()) {
            samples.put(&[("state", range.0.as_str())], Value::Count(end(range)));
        }
    }
}
