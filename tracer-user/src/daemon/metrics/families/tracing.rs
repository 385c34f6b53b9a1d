//! How each process is watched, and what that costs it.

use super::{Family, Kind, Read};
use crate::{
    daemon::{
        config::Tier,
        metrics::sample::{Put, Sample, Value},
    },
    stream::LossCause,
};

/// Every loss that a process can have.
const LOSSES: [LossCause; 8] = [
    LossCause::Unpaired,
    LossCause::Unseen,
    LossCause::StampsFull,
    LossCause::CreationSitesFull,
    LossCause::HistogramsFull,
    LossCause::RingFull,
    LossCause::Unreadable,
    LossCause::Negative,
];

/// How each process is watched.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "gmpscope_target_info",
        kind: Kind::Info,
        unit: None,
        help: "A Go process that is watched: its Go version and effective user id.",
        labels: &["go_version", "uid"],
        read: Read::Process(|process, samples| {
            let target = process.target;
            let version = crate::daemon::metrics::label::clean(&target.go_version);
            let labels = vec![
                ("go_version", version),
                ("uid", target.name.uid.to_string().into()),
            ];
            let value = Value::Count(1);
            samples.push(Sample { labels, value });
        }),
    },
    Family {
        name: "gmpscope_tier",
        kind: Kind::Gauge,
        unit: None,
        help: "1 for the tier that the process is watched at, 0 for the others. /targets says why it is not a higher \
               one.",
        labels: &["tier"],
        read: Read::Process(|process, samples| {
            for tier in Tier::ALL {
                let is = u64::from(tier == process.target.tier);
                samples.put(&[("tier", tier.name())], Value::Count(is));
            }
        }),
    },
    Family {
        name: "gmpscope_tier_allowed",
        kind: Kind::Gauge,
        unit: None,
        help: "1 for the highest tier that the configuration allows the process, 0 for the others.",
        labels: &["tier"],
        read: Read::Process(|process, samples| {
            for tier in Tier::ALL {
                let is = u64::from(tier == process.target.allowed);
                samples.put(&[("tier", tier.name())], Value::Count(is));
            }
        }),
    },
    Family {
        name: "gmpscope_tier_steps_total",
        kind: Kind::Counter,
        unit: None,
        help: "Changes of the process's tier.",
        labels: &["from", "to"],
        read: Read::Process(|process, samples| {
            for ((from, to), count) in &process.target.steps {
                samples.put(&[("from", from.name()), ("to", to.name())], Value::Count(*count));
            }
        }),
    },
    Family {
        name: "gmpscope_probe_hits_total",
        kind: Kind::Counter,
        unit: None,
        help: "Probe hits of the process; each stopped one of its threads for about a microsecond.",
        labels: &[],
        read: Read::Process(|process, samples| {
            samples.put(&[], Value::Count(process.target.hits));
        }),
    },
    Family {
        name: "gmpscope_probe_cost_seconds_total",
        kind: Kind::Counter,
        unit: Some("seconds"),
        help: "CPU time that probe hits cost the process: an estimate, hits times what a hit was measured to cost on \
               this machine. Divided by the rest of gmpscope_target_cpu_seconds_total, as rates, it is the overhead.",
        labels: &[],
        read: Read::Process(|process, samples| {
            samples.put(&[], Value::Number(process.target.cost.as_secs_f64()));
        }),
    },
    Family {
        name: "gmpscope_lost_total",
        kind: Kind::Counter,
        unit: None,
        help: "Waits that are missing from the histograms of probes, or are under a wrong key, by cause: \
               began_before_capture never belonged there, creation_sites_full is counted as other, all else is \
               missing. All causes are there once the process was probed.",
        labels: &["cause"],
        read: Read::Process(|process, samples| {
            let target = process.target;
            let probed = target.tier >= Tier::Sampled || target.hits > 0;
            for cause in LOSSES {
                match target.losses.get(&cause) {
                    Some(count) => samples.put(&[("cause", cause.name())], Value::Count(*count)),
                    None if probed => samples.put(&[("cause", cause.name())], Value::Count(0)),
                    None => {}
                }
            }
        }),
    },
];
