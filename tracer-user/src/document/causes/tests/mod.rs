mod page;

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::words::{percent, sentence, time};
use super::*;
use crate::document::capture::Capture;
use crate::document::fixtures::{self, causes::full};
use crate::document::named::Named;
use crate::model::sched::{CausesReport, Sched};
use crate::output::json;
use crate::stream::{SchedConfig, Symbolizer};

#[test]
fn a_capture_with_causes_survives_json() {
    for capture in [full(), fixtures::causes::estimated()] {
        let line = json::line(&capture).unwrap();
        assert_eq!(serde_json::from_str::<Capture>(&line).unwrap(), capture);
    }
}

#[test]
fn a_cause_is_a_histogram_with_its_totals() {
    let value = serde_json::to_value(full()).unwrap();
    let busy = &value["by_cause"]["p_busy"];
    assert_eq!(busy["total_ns"], 161_880_000_000u64);
    assert_eq!(busy["ongoing_ns"], 6_000_000);
    assert_eq!(busy["count"], 70_176);
    assert_eq!(busy["max_ns"], 5_000_000);
    // No wait of it has ended, and so there is an empty histogram.
    let unknown = &value["by_cause"]["unknown"];
    assert_eq!(unknown["count"], 0);
    assert_eq!(unknown["resolution"], 0.0625);
    assert!(unknown.get("ongoing_ns").is_none() && unknown.get("p50_ns").is_none());
    let names: Vec<&String> = value["by_cause"].as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "gc",
            "os_preempted",
            "p_busy",
            "stw",
            "thread_wakeup",
            "unknown",
            "yielded"
        ]
    );
    assert_eq!(full().waited_ns(), 228_000_000_000);
    assert_eq!(
        value["full"]["causes"],
        serde_json::json!({
            "runnable_ns": 248_000_000_000u64,
            "some_ns": 4_900_000_000u64,
            "before_known_ns": 1_200_000_000,
            "imbalance_ns": 0
        })
    );
}

#[test]
fn statements_of_one_function_are_one_culprit() {
    let culprits = full().culprits;
    let named: Vec<_> = culprits
        .iter()
        .map(|culprit| {
            (
                culprit.creation_site.as_ref().map(Untrusted::raw),
                culprit.stretches,
            )
        })
        .collect();
    assert_eq!(
        named,
        [
            (Some("main.serve"), 200),
            (
                Some("example.com/very/long/path/to/a/package/v2.(*Dispatcher[...]).startWorkers.func1"),
                100
            ),
            (Some("runtime.rt0_go"), 100),
            (None, 100),
        ]
    );
    let first = &culprits[0];
    assert_eq!(first.held_ns, 130_000_000_000);
    assert_eq!(first.share, 0.524194, "of 248 s");
    assert_eq!((first.longest_ns, first.longest_goid), (22_000_000, Some(9)));
    assert_eq!(first.longest_at_ns, 3_000_000_000, "since the capture's begin");
    assert_eq!(first.on_cpu.as_ref().unwrap().max_ns, Some(22_000_000));
    assert_eq!(culprits[3].longest_goid, None);
}

#[test]
fn stops_and_waits_leave_out_what_is_not_known() {
    let value = serde_json::to_value(full()).unwrap();
    assert_eq!(
        value["full"]["stops"],
        serde_json::json!([
            {
                "at_ns": 1_000_000_000,
                "total_ns": 12_000_000,
                "stopping_ns": 11_000_000,
                "last": { "goid": 17, "creation_site": "net/http.(*Server).Serve" },
                "reason": "read mem stats",
                "ongoing": false
            },
            { "at_ns": 4_999_000_000u64, "total_ns": 1_000_000, "stopping_ns": 0, "ongoing": true }
        ])
    );
    assert_eq!(
        value["full"]["stop_counts"],
        serde_json::json!({ "ended": 1, "long": 1 })
    );
    let slowest = &value["full"]["slowest"];
    assert_eq!(slowest[0]["goid"], 4182);
    assert_eq!(slowest[0]["origin"], "unblocked");
    assert_eq!(slowest[0]["picture"]["runnable"], 46);
    assert_eq!(
        slowest[0]["wakers"],
        serde_json::json!([
            { "kind": "goroutine", "goid": 7, "creation_site": "main.serve" },
            { "kind": "goroutine", "goid": 1, "creation_site": "runtime.rt0_go" },
            { "kind": "netpoll" }
        ])
    );
    let causes = serde_json::json!({ "cgroup_throttled": 9_800_000, "p_busy": 2_300_000 });
    assert_eq!(slowest[0]["causes_ns"], causes);
    let third = slowest[2].as_object().unwrap();
    assert_eq!(third["at_ns"], 0, "it began before the capture");
    for absent in ["goid", "creation_site", "behind", "picture"] {
        assert!(!third.contains_key(absent), "{absent}");
    }
}

#[test]
fn a_document_of_an_earlier_version_has_no_causes() {
    let mut value = serde_json::to_value(full()).unwrap();
    let capture = value.as_object_mut().unwrap();
    for added in ["answer", "by_cause", "culprits"] {
        assert!(capture.remove(added).is_some(), "{added}");
    }
    let in_full = capture["full"].as_object_mut().unwrap();
    for added in ["causes", "slowest", "stops", "stop_counts"] {
        assert!(in_full.remove(added).is_some(), "{added}");
    }
    let capture: Capture = serde_json::from_value(value).unwrap();
    assert!(capture.by_cause.is_empty() && capture.culprits.is_empty());
    assert_eq!(capture.full.unwrap().causes, None);
}

/// A symbolizer that has no name which was not asked for together with all others.
#[derive(Default)]
struct Prepared(RefCell<BTreeSet<u64>>);

impl Symbolizer for Prepared {
    fn function_at(&self, gopc: u64) -> Option<Untrusted> {
        let prepared = self.0.borrow().contains(&gopc);
        prepared.then(|| format!("main.f{gopc}").into())
    }

    fn prepare(&self, gopcs: &[u64]) {
        self.0.borrow_mut().extend(gopcs);
    }
}

#[test]
fn all_names_in_causes_are_looked_up_together() {
    let mut report = Sched::new(SchedConfig {
        minor: 27,
        syscalls: false,
        slower_ns: None,
        assists: false,
    })
    .report(fixtures::END_NS);
    report.causes = fixtures::causes::report();
    let names = Prepared::default();
    let named = Named {
        symbolizer: &names,
        begin_ns: fixtures::BEGIN_NS,
    };
    let latency = crate::latency::Latency::new(crate::stream::BucketScheme::Kernel);
    named.prepare(&latency, Some(&report), None);
    let json = serde_json::to_string(&(
        culprits(&report.causes, &named),
        stops(&report.causes, &named),
        slowest(&report.causes, &named),
    ))
    .unwrap();
    assert_eq!(
        json.matches("main.f").count(),
        json.matches("creation_site").count()
    );
    assert!(json.matches("main.f").count() > 10, "{json}");
}

#[test]
fn no_more_are_reported_than_can_be_read() {
    let of = fixtures::causes::report();
    let many = |n: usize| (0..n as u64).map(|n| 0x70_0000 + n);
    let report = CausesReport {
        culprits: many(60)
            .map(|gopc| crate::model::sched::Culprit {
                gopc,
                ..of.culprits[0].clone()
            })
            .collect(),
        stops: many(30).map(|_| of.stops[0].clone()).collect(),
        slowest: many(30).map(|_| of.slowest[0].clone()).collect(),
        ..of.clone()
    };
    let named = Named {
        symbolizer: &fixtures::Names,
        begin_ns: fixtures::BEGIN_NS,
    };
    assert_eq!(culprits(&report, &named).len(), 50);
    assert_eq!(stops(&report, &named).len(), 20);
    assert_eq!(slowest(&report, &named).len(), 20);
}

#[test]
fn a_wait_is_a_sentence() {
    let slowest = full().full.unwrap().slowest;
    let sentences: Vec<String> = slowest.iter().map(|wait| sentence(wait).into_raw()).collect();
    assert_eq!(
        sentences,
        [
            "goid 4182 (made in net/http.(*Server).Serve) waited 12.1 ms after chan receive, woken by goid 7 (made in \
             main.serve), which was woken by goid 1 (the main goroutine), which was woken by the network poller: 9.8 ms \
             throttled, 2.3 ms with all Ps busy, last behind goid 9 (made in \
             ..path/to/a/package/v2.(*Dispatcher[...]).startWorkers.func1)",
            "goid 5000 (made in main.\u{1b}[2J\u{1b}]0;owned\u{7}evil\u{202e}) has waited 6.0 ms so far after its go \
             statement, made by goid 8 (made in 0x99): 5.0 ms with all Ps busy, 950 us behind the garbage collector",
            "a goroutine waited 2.0 ms after IO wait, woken by the network poller: 2.0 ms for a reason that is not known",
        ]
    );
    let bare = RunnableWait {
        duration_ns: 1_000,
        ..RunnableWait::default()
    };
    assert_eq!(sentence(&bare), "a goroutine waited 1.0 us");
    let kind = |kind| RunnableWait {
        wakers: vec![kind],
        ..bare.clone()
    };
    assert_eq!(
        sentence(&kind(WakerInfo::Scheduler)),
        "a goroutine waited 1.0 us, woken by a timer or the scheduler"
    );
    assert_eq!(
        sentence(&kind(WakerInfo::WithoutP)),
        "a goroutine waited 1.0 us, woken by a thread without a P"
    );
}

#[test]
fn every_cause_can_be_that_of_a_part_of_a_wait() {
    let parts: BTreeSet<Untrusted> = Cause::ALL
        .into_iter()
        .map(|cause| {
            sentence(&RunnableWait {
                duration_ns: 5_000,
                causes_ns: [(ByName(cause), 5_000)].into(),
                ..RunnableWait::default()
            })
        })
        .collect();
    assert_eq!(parts.len(), Cause::COUNT);
    assert!(
        parts.iter().all(|part| part.raw().contains(": 5.0 us ")),
        "{parts:?}"
    );
}

#[test]
fn figures_in_sentences_have_at_most_three_digits() {
    let cases = [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_279, "1.3 us"),
        (99_960, "100 us"),
        (999_499, "999 us"),
        (999_500, "1.0 ms"),
        (12_100_000, "12.1 ms"),
        (999_500_000, "1.0 s"),
        (228_000_000_000, "228 s"),
        (u64::MAX, "more than 292 years"),
    ];
    for (ns, text) in cases {
        assert_eq!(time(ns), text);
    }
    for (share, text) in [
        (0.0, "0 %"),
        (0.000_1, "under 1 %"),
        (0.009_9, "under 1 %"),
        (0.01, "1 %"),
        (0.714, "71 %"),
        (0.994, "99 %"),
        (0.999, "over 99 %"),
        (1.0, "100 %"),
    ] {
        assert_eq!(percent(share), text);
    }
}
