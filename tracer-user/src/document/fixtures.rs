//! Captures for tests, built from observations by the code under test.

use crate::{
    escape::Untrusted,
    latency::Latency,
    model::Model,
    plan::Mode,
    process::limits::Limits,
    stream::{
        BucketScheme, EndedBy, Event, HistogramDelta, HistogramKey, Kind, Loss, LossCause, Observation,
        Origin, SlowWait, Snapshot, Symbolizer, TargetInfo,
        cpu_use::{CpuSlice, CpuUse},
        step::{AttachInfo, AttachedBy, MeasuredBy},
    },
};

use crate::document::build::{Parts, build};
use crate::document::capture::Capture;

/// Begin of every capture, CLOCK_MONOTONIC.
pub const BEGIN_NS: u64 = 1_000_000_000_000;
/// End of every capture, CLOCK_MONOTONIC.
pub const END_NS: u64 = BEGIN_NS + 10_000_000_000;

/// A symbolizer with names like those of Go's linker, one of them hostile.
pub struct Names;

impl Symbolizer for Names {
    fn function_at(&self, gopc: u64) -> Option<Untrusted> {
        let name = match gopc {
            0x40_1000 | 0x40_1010 => "main.serve",
            0x40_2000 => "net/http.(*Server).Serve",
            0x40_3000 => "example.com/very/long/path/to/a/package/v2.(*Dispatcher[...]).startWorkers.func1",
            0x40_4000 => "main.\u{1b}[2J\u{1b}]0;owned\u{7}evil\u{202e}",
            _ => return None,
        };
        Some(name.into())
    }
}

/// Returns the description of a target.
pub fn target() -> TargetInfo {
    TargetInfo {
        pid: 4242,
        exe: "/srv/app/bin/server".into(),
        go_version: "1.27.3".into(),
        layout: None,
        arch: "amd64".into(),
        build_mode: "exe".into(),
        stripped: true,
        cgo: Some(false),
        pgo: None,
        gomaxprocs: None,
        cgroup_cpu_limit: None,
        clock_offset_ns: None,
    }
}

/// What was observed, as a capture accumulates it.
pub struct Observed {
    /// The latencies.
    pub latency: Latency,
    /// The gauges.
    pub model: Model,
    /// CPU time of the target per wait.
    pub cpu_use: CpuUse,
}

impl Observed {
    /// Returns one that has observed nothing.
    pub fn new(scheme: BucketScheme) -> Self {
        Self {
            latency: Latency::new(scheme),
            model: Model::default(),
            cpu_use: CpuUse::default(),
        }
    }

    /// Adds an observation.
    pub fn see(&mut self, at_ns: u64, kind: Kind) {
        let observation = Observation { at_ns, kind };
        self.latency.observe(&observation);
        self.model.observe(&observation);
    }

    /// Adds waits: (length, count) each.
    pub fn waits(&mut self, key: HistogramKey, waits: &[(u64, u64)]) {
        let scheme = self.latency.scheme();
        let mut counts: std::collections::BTreeMap<u16, u64> = Default::default();
        for (ns, count) in waits {
            *counts.entry(scheme.index_of(*ns)).or_default() += count;
        }
        let known = scheme == BucketScheme::Kernel;
        let (min, max) = (waits.iter().map(|w| w.0).min(), waits.iter().map(|w| w.0).max());
        let delta = HistogramDelta {
            key,
            scheme,
            counts: counts.into_iter().collect(),
            sum_ns: known.then(|| waits.iter().map(|(ns, count)| ns * count).sum()),
            extremes_ns: min.zip(max).filter(|_| known),
            excluded_zero: 0,
        };
        self.see(END_NS, Kind::HistogramDelta(delta));
    }

    /// Builds the capture.
    pub fn capture(&self, mode: Mode, change: impl FnOnce(&mut Parts)) -> Capture {
        let mut parts = self.parts(mode, &Names);
        change(&mut parts);
        build(parts)
    }

    /// Builds the capture with the names of `symbolizer`.
    pub fn capture_named(&self, mode: Mode, symbolizer: &dyn Symbolizer) -> Capture {
        build(self.parts(mode, symbolizer))
    }

    fn parts<'p>(&'p self, mode: Mode, symbolizer: &'p dyn Symbolizer) -> Parts<'p> {
        Parts {
            target: target(),
            mode,
            mode_reason: None,
            started_at: jiff::Timestamp::from_second(1_780_000_000).unwrap(),
            begin_ns: BEGIN_NS,
            end_ns: END_NS,
            ended_by: EndedBy::Duration,
            whole: true,
            latency: &self.latency,
            tells_yields: matches!(mode, Mode::Exact | Mode::Full),
            model: &self.model,
            symbolizer,
            attach: Some(AttachInfo {
                attached_by: Some(AttachedBy::UprobeMulti),
                measured_by: MeasuredBy::Probe,
                hit_ns: Some([730, 1210]),
                latency_floor_ns: None,
            }),
            target_cpu_ns: Some(8_000_000_000),
            cpu_use: &self.cpu_use,
            halted: Vec::new(),
            limits: Limits::default(),
            concurrent_captures: 0,
            notes: Vec::new(),
        }
    }
}

/// A snapshot of a busy program.
pub fn snapshot() -> Snapshot {
    Snapshot {
        goroutines_by_state: [("runnable", 12), ("running", 2), ("syscall", 1), ("waiting", 105)]
            .map(|(state, count)| (state.to_owned(), count))
            .to_vec(),
        goroutines_sampled: false,
        goroutines_read: Some(133),
        goroutines_by_state_range: Vec::new(),
        goroutines_live: Some(120),
        goroutines_user: Some(115),
        goroutines_live_range: None,
        allgs: Some(133),
        global_runq: Some(3),
        local_runqs: vec![4, 5],
        gomaxprocs: Some(2),
        ps_by_state: vec![("running".to_owned(), 2)],
        idle_ps: Some(0),
        spinning_ms: Some(0),
        idle_ms: Some(3),
        gc_waiting: Some(false),
        since_last_poll_ns: Some(1_340_000),
        sysmon_waiting: Some(false),
        stw_pauses: Some((4, 1)),
        stw_total_ns: Some((400_000, 30_000)),
        stw_stopping_ns: Some((100_000, 10_000)),
    }
}

/// `exact` on a program whose goroutines compute too long, with slow waits and losses.
pub fn exact() -> Capture {
    let mut observed = Observed::new(BucketScheme::Kernel);
    observed.see(BEGIN_NS, Kind::Snapshot(Box::new(snapshot())));
    observed.waits(
        HistogramKey::Origin(Origin::Created),
        &[(300, 900), (5_000, 80), (150_000, 15), (2_000_000, 5)],
    );
    observed.waits(
        HistogramKey::Origin(Origin::Unblocked),
        &[(250, 20_000), (900, 9_000), (40_000, 1_000)],
    );
    observed.waits(
        HistogramKey::Origin(Origin::Preempted),
        &[(16_800_000, 30), (21_000_000, 12)],
    );
    observed.waits(HistogramKey::Origin(Origin::Netpoll), &[]);
    for n in 0..25u64 {
        let wait = SlowWait {
            latency_ns: 16_000_000 + n * 200_000,
            goid: Some(100 + n),
            gopc: [
                Some(0x40_1000),
                Some(0x40_3000),
                Some(0x40_4000),
                Some(0x99),
                None,
            ][n as usize % 5],
            origin: Some(Origin::Preempted),
            tid: 4243 + (n % 2) as u32,
            p: Some((n % 2) as u32),
        };
        observed.see(BEGIN_NS + n * 333_000_000, Kind::Event(Event::SlowWait(wait)));
    }
    for (cause, count) in [(LossCause::Unpaired, 7), (LossCause::StampsFull, 3)] {
        observed.see(END_NS, Kind::Loss(Loss { cause, count }));
    }
    observed.see(END_NS, Kind::Hits(62_094));
    observed.see(END_NS, Kind::Snapshot(Box::new(snapshot())));
    observed.capture(Mode::Exact, |parts| {
        parts.attach = parts.attach.map(|attach| AttachInfo {
            latency_floor_ns: Some(810),
            ..attach
        });
        parts.target.cgroup_cpu_limit = Some(1.5);
        parts.target.gomaxprocs = Some(4);
    })
}

/// `exact` while the garbage collector sweeps: nearly all waits are voluntary yields.
pub fn sweeping() -> Observed {
    let mut observed = Observed::new(BucketScheme::Kernel);
    observed.waits(HistogramKey::Origin(Origin::Yielded), &[(1_000, 98_000)]);
    observed.waits(
        HistogramKey::Origin(Origin::Unblocked),
        &[(40_000, 1_500), (300_000, 500)],
    );
    observed.see(END_NS, Kind::Hits(200_000));
    observed
}

/// `sampled` on a server, with many creation sites.
pub fn sampled() -> Capture {
    let mut observed = Observed::new(BucketScheme::Kernel);
    observed.waits(
        HistogramKey::CreationSite(0x40_1000),
        &[(700, 5_000), (12_000, 50)],
    );
    observed.waits(HistogramKey::CreationSite(0x40_1010), &[(800, 500), (130_000, 1)]);
    observed.waits(
        HistogramKey::CreationSite(0x40_2000),
        &[(1_500, 3_000), (300_000, 40)],
    );
    observed.waits(HistogramKey::CreationSite(0x40_3000), &[(90, 100), (2_600, 400)]);
    observed.waits(HistogramKey::CreationSite(0x40_4000), &[(4_000, 10)]);
    for n in 0..4 {
        observed.waits(HistogramKey::CreationSite(0x50_0000 + n * 16), &[(1_000 << n, 3)]);
    }
    observed.waits(HistogramKey::CreationSite(0), &[(600, 2)]);
    observed.see(END_NS, Kind::Hits(9_115));
    observed.see(
        END_NS,
        Kind::Snapshot(Box::new(Snapshot {
            goroutines_sampled: true,
            goroutines_live: Some(121),
            goroutines_by_state_range: [
                ("runnable", 9, 16),
                ("running", 1, 5),
                ("syscall", 1, 4),
                ("waiting", 99, 109),
            ]
            .map(|(state, low, high)| (state.to_owned(), low, high))
            .to_vec(),
            ..snapshot()
        })),
    );
    let slice = |(cpu_ns, waits)| CpuSlice { cpu_ns, waits };
    observed.cpu_use = CpuUse {
        before: [
            (8_100_000, 91),
            (7_900_000, 90),
            (8_000_000, 92),
            (7_950_000, 89),
            (8_050_000, 88),
        ]
        .map(slice)
        .to_vec(),
        during: [
            (2_410_000_000, 26_200),
            (2_395_000_000, 26_050),
            (2_402_000_000, 26_010),
            (2_399_000_000, 26_120),
            (2_405_000_000, 26_090),
        ]
        .map(slice)
        .to_vec(),
    };
    observed.capture(Mode::Sampled, |parts| {
        parts.ended_by = EndedBy::Signal;
        parts.end_ns = BEGIN_NS + 3_210_000_000;
        parts.concurrent_captures = 1;
    })
}

/// `passive`, chosen by `auto`, on a program of Go 1.25.
pub fn passive() -> Capture {
    let mut observed = Observed::new(BucketScheme::Go121);
    let scheme = BucketScheme::Go121;
    observed.see(
        BEGIN_NS,
        Kind::Snapshot(Box::new(Snapshot {
            stw_pauses: Some((0, 0)),
            stw_total_ns: Some((0, 0)),
            stw_stopping_ns: Some((0, 0)),
            ..snapshot()
        })),
    );
    let delta = HistogramDelta {
        key: HistogramKey::All,
        scheme,
        counts: [(100, 40), (400, 700), (5_000, 90), (1_000_000, 12)]
            .map(|(ns, count)| (scheme.index_of(ns), count))
            .into_iter()
            .chain([(scheme.buckets(), 1)])
            .collect(),
        sum_ns: None,
        extremes_ns: None,
        excluded_zero: 2_491,
    };
    observed.see(END_NS, Kind::HistogramDelta(delta));
    observed.see(
        END_NS,
        Kind::Snapshot(Box::new(Snapshot {
            stw_total_ns: Some((410_000_000, 30_000)),
            stw_pauses: Some((230, 1)),
            ..snapshot()
        })),
    );
    observed.capture(Mode::Passive, |parts| {
        parts.target.go_version = "1.25.5 X:greenteagc".into();
        parts.mode_reason = Some("auto chose passive: no call of nanotime1 was found in casgstatus".into());
        parts.ended_by = EndedBy::TargetExit;
        parts.whole = false;
        parts.notes = vec!["the target executes \u{1b}[31mred\u{1b}[0m".into()];
    })
}

/// `sampled` on a target that does nothing.
pub fn idle() -> Capture {
    Observed::new(BucketScheme::Kernel).capture(Mode::Sampled, |_| {})
}
