//! Views for tests, and the tools that they need.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    daemon::{
        config::Tier,
        view::{DaemonView, HostView, Name, RunnableTime, StartsView, TargetView, Throttling},
    },
    latency::Histogram,
    model::sched::Cause,
    stream::{BucketScheme, HistogramDelta, HistogramKey, LossCause, Origin, Snapshot},
};

/// A histogram of these waits, in nanoseconds. Only a histogram of the kernel has a sum.
pub fn histogram(scheme: BucketScheme, waits_ns: &[u64]) -> Histogram {
    let mut counts: BTreeMap<u16, u64> = BTreeMap::new();
    for ns in waits_ns {
        *counts.entry(scheme.index_of(*ns)).or_default() += 1;
    }
    let mut histogram = Histogram::new(scheme);
    histogram.add_delta(&HistogramDelta {
        key: HistogramKey::All,
        scheme,
        counts: counts.into_iter().collect(),
        sum_ns: (scheme == BucketScheme::Kernel).then(|| waits_ns.iter().sum()),
        extremes_ns: None,
        excluded_zero: 0,
    });
    histogram
}

/// `count` waits spread evenly over the logarithm of their length, from 500 ns to half a second.
pub fn spread(count: u64) -> Vec<u64> {
    (0..count)
        .map(|i| (500.0 * (1e6f64).powf(i as f64 / count as f64)) as u64)
        .collect()
}

/// A process of which nothing is known but its name.
pub fn target(pid: u32) -> TargetView {
    TargetView {
        name: Name {
            exe: "/srv/app/server".into(),
            comm: "server".into(),
            pid,
            start_time: 4_000_000 + u64::from(pid),
            uid: 1000,
            container: None,
            pod: None,
        },
        go_version: "1.27.3".into(),
        layout: None,
        tier: Tier::Passive,
        allowed: Tier::Passive,
        why: None,
        runtime_waits: None,
        sampled_waits: BTreeMap::new(),
        exact_waits: BTreeMap::new(),
        runnable: None,
        gauges: None,
        cgroup_cpus: None,
        throttling: None,
        cpu: Duration::from_millis(12_345),
        hits: 0,
        cost: Duration::ZERO,
        losses: BTreeMap::new(),
        steps: BTreeMap::new(),
        left_out: Vec::new(),
    }
}

/// A process of which everything is known, with this many creation sites.
pub fn full(pid: u32, sites: u64) -> TargetView {
    let words = |all: &[(&str, u64)]| all.iter().map(|(word, n)| ((*word).to_owned(), *n)).collect();
    let mut target = target(pid);
    target.name.container = Some("3f4e1c6d2a90".into());
    target.name.pod = Some("0d6f9a52-9a3c-4e1e-9f4f-3a2d5c7b8e10".into());
    (target.tier, target.allowed) = (Tier::Sampled, Tier::Exact);
    target.why = Some("exact for a window".into());
    target.runtime_waits = Some(histogram(BucketScheme::Go121, &spread(2000)));
    for site in 0..sites {
        let waits = histogram(BucketScheme::Kernel, &spread(300 - site.min(200)));
        target
            .sampled_waits
            .insert(format!("example.com/app/worker.(*Pool).start{site}.func1"), waits);
    }
    for origin in Origin::ALL {
        let waits = histogram(BucketScheme::Kernel, &spread(500));
        target.exact_waits.insert(origin, waits);
    }
    target.runnable = Some(RunnableTime {
        by_cause_ns: [
            (Cause::PBusy, 41_250_000_000),
            (Cause::OsPreempted, 3_000_000_000),
        ]
        .into(),
        some_ns: 9_500_000_000,
    });
    target.gauges = Some(Snapshot {
        goroutines_by_state: words(&[
            ("waiting", 900),
            ("runnable", 30),
            ("running", 4),
            ("status 77", 1),
        ]),
        goroutines_sampled: true,
        goroutines_read: Some(1024),
        goroutines_by_state_range: [("waiting", 880, 915), ("status 77", 1, 7)]
            .map(|(state, low, high)| (state.to_owned(), low, high))
            .to_vec(),
        goroutines_live: Some(935),
        goroutines_user: Some(930),
        goroutines_live_range: None,
        allgs: Some(1200),
        global_runq: Some(3),
        local_runqs: vec![7, 0, 12, 8],
        gomaxprocs: Some(4),
        ps_by_state: words(&[("running", 4)]),
        idle_ps: Some(0),
        spinning_ms: Some(1),
        idle_ms: Some(5),
        gc_waiting: Some(false),
        since_last_poll_ns: Some(2_500_000),
        sysmon_waiting: Some(false),
        stw_pauses: Some((40, 2)),
        stw_total_ns: Some((1_500_000, 80_000)),
        stw_stopping_ns: Some((400_000, 20_000)),
    });
    target.cgroup_cpus = Some(1.5);
    target.throttling = Some(Throttling {
        periods: 1000,
        throttled_periods: 17,
        throttled: Duration::from_millis(340),
    });
    (target.hits, target.cost) = (123_456, Duration::from_micros(117_283));
    target.losses.insert(LossCause::Unreadable, 3);
    target.steps.insert((Tier::Passive, Tier::Sampled), 1);
    target
}

/// A host with these processes, of which all else is known too.
pub fn host(targets: impl IntoIterator<Item = TargetView>) -> HostView {
    let mut phases = vec![
        (
            "exec".to_owned(),
            histogram(BucketScheme::Kernel, &[400_000, 500_000]),
        ),
        (
            "total".to_owned(),
            histogram(BucketScheme::Kernel, &[1_900_000, 303_000_000]),
        ),
    ];
    phases.push((
        "init:net/http".to_owned(),
        histogram(BucketScheme::Kernel, &[20_000, 30_000]),
    ));
    let starts = StartsView {
        completed: 2,
        failed: 1,
        missed: 0,
        phases,
    };
    HostView {
        targets: targets.into_iter().map(Arc::new).collect(),
        starts: BTreeMap::from([("/srv/app/server".to_owned(), starts)]),
        daemon: DaemonView {
            cpu: Duration::from_millis(1_500),
            resident_bytes: 21 << 20,
            open_fds: 57,
            max_fds: Some(524_288),
            started_at: "2026-11-25T08:00:00Z".parse().ok(),
            hit_ns: Some([700, 1300]),
            errors: BTreeMap::from([("memory_unreadable", 2)]),
            not_go: 120,
            excluded: 3,
            beyond_limit: 0,
            unreadable: Arc::default(),
            lost_process_events: 0,
            reloads: BTreeMap::from([("ok", 4), ("error", 1)]),
            config_loaded_at: "2026-11-25T09:00:00Z".parse().ok(),
            config_ok: Some(true),
            config_sha256: Some("9f86d081884c7d65".into()),
        },
        ..HostView::default()
    }
}

/// Finds `prometheus` or `promtool`: in GMPSCOPE_PROMETHEUS, on PATH, or in the cache.
pub fn program(name: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(std::env::var_os("GMPSCOPE_PROMETHEUS").map(PathBuf::from));
    folders.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let cache = std::env::var_os("GMPSCOPE_CACHE").map(PathBuf::from);
    let xdg = || Some(PathBuf::from(std::env::var_os("XDG_CACHE_HOME")?).join("gmpscope"));
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/gmpscope"));
    folders.extend(
        cache
            .or_else(xdg)
            .or_else(home)
            .map(|cache| cache.join("tools/prometheus/usr/bin")),
    );
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: `cargo xtask setup` fetches it"))
}
