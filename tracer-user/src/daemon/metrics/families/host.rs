//! The daemon, and the host as a whole. What every Prometheus client exports about its own process has the usual names,
//! `process_…`.

use super::{Family, Kind, Read};
use crate::daemon::{
    config::Tier,
    metrics::{
        sample::{Put, Value},
        series::targets,
    },
};

/// The daemon.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "gmpscope_build_info",
        kind: Kind::Info,
        unit: None,
        help: "The gmpscope that this is.",
        labels: &["version"],
        read: Read::Host(|_, samples| {
            samples.put(&[("version", env!("CARGO_PKG_VERSION"))], Value::Count(1));
        }),
    },
    Family {
        name: "gmpscope_targets",
        kind: Kind::Gauge,
        unit: None,
        help: "Go processes by the tier that they are watched at.",
        labels: &["tier"],
        read: Read::Host(|host, samples| {
            for tier in Tier::ALL {
                let count = targets(host.view).filter(|target| target.tier == tier).count();
                samples.put(&[("tier", tier.name())], Value::Count(count as u64));
            }
        }),
    },
    Family {
        name: "gmpscope_processes_passed_over",
        kind: Kind::Gauge,
        unit: None,
        help: "Live processes that are not watched: not_go, excluded (Go, but a rule says off), beyond_limit (more \
               than discovery.max_targets).",
        labels: &["reason"],
        read: Read::Host(|host, samples| {
            let daemon = &host.view.daemon;
            for (reason, count) in [
                ("not_go", daemon.not_go),
                ("excluded", daemon.excluded),
                ("beyond_limit", daemon.beyond_limit),
            ] {
                samples.put(&[("reason", reason)], Value::Count(count));
            }
        }),
    },
    Family {
        name: "gmpscope_process_events_lost_total",
        kind: Kind::Counter,
        unit: None,
        help: "Events of the kernel about processes that were lost; each loss was followed by a scan of /proc.",
        labels: &[],
        read: Read::Host(|host, samples| {
            samples.put(&[], Value::Count(host.view.daemon.lost_process_events));
        }),
    },
    Family {
        name: "gmpscope_probe_hit_cost_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        help: "What one probe hit costs a process on this machine, as measured at start: lowest and highest estimate.",
        labels: &["estimate"],
        read: Read::Host(|host, samples| {
            if let Some([low, high]) = host.view.daemon.hit_ns {
                samples.put(&[("estimate", "low")], Value::Number(low as f64 / 1e9));
                samples.put(&[("estimate", "high")], Value::Number(high as f64 / 1e9));
            }
        }),
    },
    Family {
        name: "gmpscope_errors_total",
        kind: Kind::Counter,
        unit: None,
        help: "What went wrong, by kind; the log says what exactly.",
        labels: &["kind"],
        read: Read::Host(|host, samples| {
            for (kind, count) in &host.view.daemon.errors {
                samples.put(&[("kind", kind)], Value::Count(*count));
            }
        }),
    },
    Family {
        name: "gmpscope_config_reloads_total",
        kind: Kind::Counter,
        unit: None,
        help: "Times that the configuration was read again, by result: ok, or error, after which the old one stayed in \
               force.",
        labels: &["result"],
        read: Read::Host(|host, samples| {
            for result in ["ok", "error"] {
                let count = host.view.daemon.reloads.get(result).copied().unwrap_or_default();
                samples.put(&[("result", result)], Value::Count(count));
            }
        }),
    },
    Family {
        name: "gmpscope_config_last_reload_successful",
        kind: Kind::Gauge,
        unit: None,
        help: "1 if the configuration had no mistake when it was last read, else 0.",
        labels: &[],
        read: Read::Host(|host, samples| {
            if let Some(ok) = host.view.daemon.config_ok {
                samples.put(&[], Value::Count(ok.into()));
            }
        }),
    },
    Family {
        name: "gmpscope_config_last_reload_success_timestamp_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        help: "When the configuration in force was read, in seconds since 1970.",
        labels: &[],
        read: Read::Host(|host, samples| {
            if let Some(at) = host.view.daemon.config_loaded_at {
                samples.put(&[], Value::Number(seconds(at)));
            }
        }),
    },
    Family {
        name: "gmpscope_config_info",
        kind: Kind::Info,
        unit: None,
        help: "SHA-256 of the configuration in force.",
        labels: &["sha256"],
        read: Read::Host(|host, samples| {
            if let Some(sha256) = &host.view.daemon.config_sha256 {
                samples.put(&[("sha256", sha256)], Value::Count(1));
            }
        }),
    },
    Family {
        name: "gmpscope_http_requests_total",
        kind: Kind::Counter,
        unit: None,
        help: "Requests that were answered, by path (other: there is no such page) and status.",
        labels: &["path", "code"],
        read: Read::Host(|host, samples| {
            for ((path, code), count) in &host.http.answered {
                samples.push(crate::daemon::metrics::sample::Sample {
                    labels: vec![("path", (*path).into()), ("code", code.to_string().into())],
                    value: Value::Count(*count),
                });
            }
        }),
    },
    Family {
        name: "gmpscope_http_connections_refused_total",
        kind: Kind::Counter,
        unit: None,
        help: "Connections that ended badly: beyond_limit (http.max_connections), timeout (http.timeout was over), \
               malformed (not HTTP), too_large (head of the request), error (of the network, or the other side).",
        labels: &["reason"],
        read: Read::Host(|host, samples| {
            for (reason, count) in &host.http.refused {
                samples.put(&[("reason", reason)], Value::Count(*count));
            }
        }),
    },
    Family {
        name: "gmpscope_http_connections",
        kind: Kind::Gauge,
        unit: None,
        help: "Open connections, that of this scrape included.",
        labels: &[],
        read: Read::Host(|host, samples| {
            samples.put(&[], Value::Count(host.http.open));
        }),
    },
    Family {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        unit: Some("seconds"),
        help: "CPU time of the daemon, user and system.",
        labels: &[],
        read: Read::Host(|host, samples| {
            samples.put(&[], Value::Number(host.view.daemon.cpu.as_secs_f64()));
        }),
    },
    Family {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        unit: Some("bytes"),
        help: "Resident memory of the daemon.",
        labels: &[],
        read: Read::Host(|host, samples| {
            samples.put(&[], Value::Count(host.view.daemon.resident_bytes));
        }),
    },
    Family {
        name: "process_open_fds",
        kind: Kind::Gauge,
        unit: None,
        help: "Open file descriptors of the daemon.",
        labels: &[],
        read: Read::Host(|host, samples| {
            samples.put(&[], Value::Count(host.view.daemon.open_fds));
        }),
    },
    Family {
        name: "process_max_fds",
        kind: Kind::Gauge,
        unit: None,
        help: "Most file descriptors that the daemon may have open.",
        labels: &[],
        read: Read::Host(|host, samples| {
            if let Some(most) = host.view.daemon.max_fds {
                samples.put(&[], Value::Count(most));
            }
        }),
    },
    Family {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        help: "When the daemon started, in seconds since 1970.",
        labels: &[],
        read: Read::Host(|host, samples| {
            if let Some(at) = host.view.daemon.started_at {
                samples.put(&[], Value::Number(seconds(at)));
            }
        }),
    },
];

/// A time in seconds since 1970, as Prometheus has it.
fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}
