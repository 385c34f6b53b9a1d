//! How long one scrape of 100 targets takes, in each format: `cargo bench -p tracer-user --bench scrape`. The aim is 50 ms.
//! Each target has its runtime's histogram and gauges; with an argument of `--sites`, 20 creation sites as well.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration, time::Instant};

use tracer_user::{
    daemon::{
        config::Tier,
        http::counters::Counts,
        metrics::{Exposition, Format},
        view::{HostView, Name, RunnableTime, TargetView},
    },
    latency::Histogram,
    model::sched::Cause,
    stream::{BucketScheme, HistogramDelta, HistogramKey, Snapshot},
};

const TARGETS: u32 = 100;
const ROUNDS: usize = 50;

/// Waits in every bucket from a microsecond to a second.
fn waits(scheme: BucketScheme) -> Histogram {
    let mut histogram = Histogram::new(scheme);
    let range = scheme.index_of(1_000)..scheme.index_of(1_000_000_000);
    histogram.add_delta(&HistogramDelta {
        key: HistogramKey::All,
        scheme,
        counts: range.map(|index| (index, u64::from(index) * 37 + 1)).collect(),
        sum_ns: None,
        extremes_ns: None,
        excluded_zero: 0,
    });
    histogram
}

fn target(pid: u32, sites: usize) -> TargetView {
    let words = |all: &[&str]| all.iter().map(|word| ((*word).to_owned(), 17)).collect();
    TargetView {
        name: Name {
            exe: format!("/usr/local/lib/services/service-{}/bin/server", pid % 7).into(),
            comm: "server".into(),
            pid,
            start_time: pid.into(),
            uid: 1000,
            container: Some("3f4e1c6d2a903f4e1c6d2a903f4e1c6d2a903f4e1c6d2a903f4e1c6d2a900000".into()),
            pod: None,
        },
        go_version: "1.27.3".into(),
        layout: None,
        tier: Tier::Passive,
        allowed: Tier::Sampled,
        why: None,
        runtime_waits: Some(waits(BucketScheme::Go121)),
        sampled_waits: (0..sites)
            .map(|site| {
                (
                    format!("example.com/service/internal/pool.(*Pool).start{site}"),
                    waits(BucketScheme::Kernel),
                )
            })
            .collect(),
        exact_waits: BTreeMap::new(),
        runnable: Some(RunnableTime {
            by_cause_ns: Cause::ALL.map(|cause| (cause, 1_234_567_890)).into(),
            some_ns: 1_234_567_890,
        }),
        gauges: Some(Snapshot {
            goroutines_by_state: words(&["runnable", "running", "syscall", "waiting"]),
            global_runq: Some(0),
            local_runqs: vec![1; 8],
            gomaxprocs: Some(8),
            ps_by_state: words(&["idle", "running"]),
            idle_ms: Some(3),
            spinning_ms: Some(0),
            stw_pauses: Some((10, 1)),
            stw_total_ns: Some((10_000, 1_000)),
            ..Snapshot::default()
        }),
        cgroup_cpus: Some(2.0),
        throttling: None,
        cpu: Duration::from_secs(100),
        hits: 0,
        cost: Duration::ZERO,
        losses: BTreeMap::new(),
        steps: BTreeMap::new(),
        left_out: Vec::new(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    for sites in [0, 20] {
        let view = Arc::new(HostView {
            targets: (1..=TARGETS).map(|pid| Arc::new(target(pid, sites))).collect(),
            ..HostView::default()
        });
        let exposition = Exposition::new();
        for format in Format::ALL {
            let mut took = Vec::with_capacity(ROUNDS);
            let mut bytes = 0;
            for _ in 0..ROUNDS {
                let began = Instant::now();
                bytes = exposition
                    .render(Arc::clone(&view), Counts::default(), format)?
                    .len();
                took.push(began.elapsed());
            }
            took.sort();
            println!(
                "{TARGETS} targets, {sites:>2} creation sites each, {format:?}: {} KiB in {:.1} ms (median; {:.1} to {:.1})",
                bytes >> 10,
                took[ROUNDS / 2].as_secs_f64() * 1e3,
                took[0].as_secs_f64() * 1e3,
                took[ROUNDS - 1].as_secs_f64() * 1e3,
            );
        }
    }
    Ok(())
}
