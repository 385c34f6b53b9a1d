use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::stream::ongoing::{OngoingSeen, RunnableGoroutine, StillRunnable, StillStopped};
use crate::stream::{BucketScheme, Event, HistogramKey, Kind, Origin, SlowWait};
use crate::{
    document::{fixtures, interval::Interval},
    output::{
        json,
        text::{Style, render},
    },
    stream::plugin::{PluginSeen, PluginsSeen},
};

fn round_trip(capture: &Capture) -> Value {
    let line = json::line(capture).unwrap();
    assert_eq!(line.lines().count(), 1);
    assert_eq!(&serde_json::from_str::<Capture>(&line).unwrap(), capture);
    serde_json::from_str(&line).unwrap()
}

#[test]
fn every_capture_survives_json() {
    for capture in [
        fixtures::exact(),
        fixtures::sampled(),
        fixtures::passive(),
        fixtures::idle(),
    ] {
        let value = round_trip(&capture);
        assert_eq!(value["schema"], "gmpscope.capture/1");
    }
}

#[test]
fn exact_tells_origins_apart_and_what_was_lost() {
    let value = round_trip(&fixtures::exact());
    let origins: Vec<_> = value["by_origin"].as_object().unwrap().keys().collect();
    assert_eq!(origins, ["created", "preempted", "unblocked"]);
    assert_eq!(value["runnable_to_running"]["count"], 31_042);
    assert_eq!(value["capture"]["events"], 31_042);
    assert_eq!(value["runnable_to_running"]["min_ns"], 250);
    assert_eq!(value["runnable_to_running"]["max_ns"], 21_000_000);
    assert_eq!(value["runnable_to_running"]["resolution"], 0.0625);
    assert_eq!(value["capture"]["complete"], false);
    assert_eq!(value["capture"]["lost_events"], 3);
    assert_eq!(value["capture"]["lost_by_cause"]["began_before_capture"], 7);
    // 62,094 hits of at most 1,210 ns in 8 s.
    assert_eq!(value["capture"]["overhead_ratio"], 1.009481);
    assert!(value["capture"].get("sampling").is_none());
    assert_eq!(value["slow"].as_array().unwrap().len(), 25);
    assert_eq!(value["slow"][0]["latency_ns"], 20_800_000);
    let buckets = value["runnable_to_running"]["buckets"].as_array().unwrap();
    let sum: u64 = buckets
        .iter()
        .map(|bucket| bucket["count"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, 31_042);
}

#[test]
fn voluntary_yields_are_kept_apart() {
    let observed = fixtures::sweeping();
    let value = round_trip(&observed.capture(Mode::Exact, |_| {}));
    let (all, waits) = (&value["runnable_to_running"], &value["without_yields"]);
    assert_eq!(all["count"], 100_000);
    assert_eq!(waits["count"], 2_000);
    assert!(all["p90_ns"].as_u64().unwrap() < 1_100);
    assert!(
        (40_000..43_000).contains(&waits["p50_ns"].as_u64().unwrap()),
        "{waits}"
    );
    assert_eq!(
        waits["sum_ns"],
        1_500 * 40_000 + 500 * 300_000,
        "of the waits alone"
    );
    assert_eq!(value["by_origin"]["yielded"]["count"], 98_000);
    assert_eq!(value["capture"]["events"], 100_000);
    // Where none yields, the two are the same.
    let exact = fixtures::exact();
    assert_eq!(exact.without_yields, Some(exact.runnable_to_running));
}

#[test]
fn what_cannot_be_told_apart_is_not_left_out() {
    for capture in [fixtures::sampled(), fixtures::passive(), fixtures::idle()] {
        assert_eq!(capture.without_yields, None);
        assert_eq!(capture.waits(), &capture.runnable_to_running);
    }
    // Without g.preempt, a goroutine that is preempted counts as yielded.
    let capture = fixtures::sweeping().capture(Mode::Exact, |parts| parts.knows_yields = false);
    assert_eq!((capture.without_yields.as_ref(), capture.yields()), (None, 0));
    assert_eq!(capture.waits().count, 100_000);
    assert!(
        capture
            .capture
            .notes
            .iter()
            .any(|note| note.raw() == YIELDS_UNKNOWN)
    );
}

#[test]
fn goroutines_made_in_one_function_are_one_creation_site() {
    let capture = fixtures::sampled();
    assert_eq!(capture.by_creation_site[&"main.serve".into()].count, 5_551);
    assert_eq!(capture.by_creation_site[&"0x500000".into()].count, 3);
    assert_eq!(capture.by_creation_site[&"other".into()].count, 2);
    assert!(capture.by_origin.is_empty());
    let sampling = capture.capture.sampling.unwrap();
    assert_eq!(
        (sampling.by, sampling.nominal, sampling.uniform),
        (SampledBy::Runtime, 8, false)
    );
    assert!(capture.capture.complete, "a window that its owner ended is whole");
}

#[test]
fn passive_leaves_out_what_it_does_not_know() {
    let value = round_trip(&fixtures::passive());
    let hist = value["runnable_to_running"].as_object().unwrap();
    for absent in ["sum_ns", "min_ns", "max_ns"] {
        assert!(!hist.contains_key(absent), "{absent}");
    }
    assert_eq!(hist["excluded_zero"], 2_491);
    assert_eq!(hist["resolution"], 0.25);
    assert_eq!(
        hist["buckets"].as_array().unwrap().last().unwrap()["le_ns"],
        i64::MAX
    );
    assert_eq!(value["capture"]["ended_by"], "target_exit");
    assert_eq!(value["capture"]["complete"], false);
    assert_eq!(value["capture"]["overhead_ratio"], 1.0);
    assert_eq!(value["goroutines"]["live"], 120);
    assert_eq!(value["scheduler"]["ps_by_state"]["running"], 2);
    assert_eq!(value["scheduler"]["stw_total_ns"]["gc"], 410_000_000);
    assert_eq!(value["pauses"]["count"]["gc"], 230);
    assert_eq!(value["pauses"]["total_ns"]["gc"], 410_000_000);
    assert_eq!(value["pauses"]["stopping_ns"]["gc"], 100_000);
    assert_eq!(value["target"]["gomaxprocs"], 2, "from the snapshot");
}

#[test]
fn estimated_goroutines_have_an_interval_and_counted_ones_have_none() {
    let value = round_trip(&fixtures::sampled());
    assert_eq!(value["goroutines"]["estimated"], true);
    assert_eq!(value["goroutines"]["live"], 121, "by the runtime's own counters");
    assert_eq!(value["goroutines"]["user"], 115);
    assert_eq!(value["goroutines"]["by_state_range"]["waiting"]["high"], 109);
    let value = round_trip(&fixtures::exact());
    let goroutines = value["goroutines"].as_object().unwrap();
    for absent in ["estimated", "by_state_range", "live_range"] {
        assert!(!goroutines.contains_key(absent), "{absent}");
    }
}

#[test]
fn an_idle_target_has_an_empty_histogram_and_no_percentiles() {
    let value = round_trip(&fixtures::idle());
    assert_eq!(value["runnable_to_running"]["count"], 0);
    assert!(value["runnable_to_running"].get("p50_ns").is_none());
    assert!(value.get("goroutines").is_none() && value.get("by_creation_site").is_none());
}

#[test]
fn what_is_not_over_is_in_the_document_and_in_no_histogram() {
    let goroutine = |goid, since_ns: Option<u64>, throughout| RunnableGoroutine {
        goid,
        gopc: 0x40_1000,
        since_ns,
        throughout,
        seen_ns: None,
        origin: since_ns.map(|_| Origin::Created as u8),
    };
    let second = 1_000_000_000u64;
    let seen = OngoingSeen {
        runnable: Some(StillRunnable {
            read: 40,
            all: 40,
            count: 3,
            goroutines: vec![
                goroutine(11, None, true),
                goroutine(12, Some(fixtures::BEGIN_NS + 4 * second), false),
                goroutine(13, None, false),
            ],
        }),
        stop: Some(StillStopped {
            since_ns: fixtures::BEGIN_NS + 7 * second,
            not_stopped: 1,
        }),
    };
    let mut observed = fixtures::Observed::new(BucketScheme::Kernel);
    observed.see(fixtures::END_NS, Kind::Ongoing(seen));
    let capture = observed.capture(Mode::Exact, |_| {});
    assert!(capture.capture.complete, "nothing was lost");
    let value = round_trip(&capture);
    assert_eq!(value["runnable_to_running"]["count"], 0);
    let runnable = &value["ongoing"]["runnable"];
    assert_eq!(runnable["count"], 3);
    assert_eq!(runnable["since_unknown"], 1);
    assert_eq!(runnable["longest_ns"], 10 * second);
    assert_eq!(
        runnable["longest"],
        serde_json::json!([
            { "at_least_ns": 10 * second, "begin_known": false, "goid": 11, "creation_site": "main.serve" },
            {
                "at_least_ns": 6 * second,
                "begin_known": true,
                "goid": 12,
                "creation_site": "main.serve",
                "origin": "created"
            },
        ])
    );
    assert!(runnable.get("looked_at").is_none(), "all were looked at");
    let stop = &value["ongoing"]["stop_the_world"];
    assert_eq!(
        *stop,
        serde_json::json!({ "at_least_ns": 3 * second, "ps_not_stopped": 1 })
    );
    let ids: Vec<&str> = capture
        .findings
        .iter()
        .map(|finding| finding.id.as_str())
        .collect();
    assert_eq!(ids, ["starved-goroutines", "world-still-stopping"]);
    // A mode that does not know it has no such part.
    assert!(round_trip(&fixtures::exact()).get("ongoing").is_none());
}

#[test]
fn no_control_character_of_the_target_reaches_the_output() {
    let line = json::line(&fixtures::sampled()).unwrap();
    assert!(line.trim_end().chars().all(|c| !crate::escape::is_dangerous(c)));
    assert!(line.contains("\\u001b[2J") && line.contains("\\u202e"), "{line}");
}

proptest! {
    #[test]
    fn any_capture_survives_json_and_its_percentiles_are_bounds_of_its_buckets(
        waits in prop::collection::vec((0u64..1 << 46, 1u64..1_000), 1..60),
        go in any::<bool>(),
    ) {
        let scheme = if go { BucketScheme::Go121 } else { BucketScheme::Kernel };
        let mut observed = fixtures::Observed::new(scheme);
        for (n, wait) in waits.iter().enumerate() {
            let key = HistogramKey::Origin(Origin::ALL[n % 6]);
            observed.waits(if go { HistogramKey::All } else { key }, &[*wait]);
        }
        let capture = observed.capture(if go { Mode::Passive } else { Mode::Exact }, |_| {});
        round_trip(&capture);
        let hist = &capture.runnable_to_running;
        prop_assert_eq!(hist.count, waits.iter().map(|wait| wait.1).sum::<u64>());
        prop_assert_eq!(hist.count, hist.buckets.iter().map(|bucket| bucket.count).sum::<u64>());
        prop_assert!(hist.buckets.is_sorted_by(|a, b| a.le_ns < b.le_ns));
        let percentiles = [hist.p50_ns, hist.p90_ns, hist.p99_ns, hist.p999_ns];
        prop_assert!(percentiles.is_sorted());
        for ns in percentiles {
            prop_assert!(hist.buckets.iter().any(|bucket| Some(bucket.le_ns) == ns));
        }
        let by_origin: u64 = capture.by_origin.values().map(|hist| hist.count).sum();
        prop_assert_eq!(by_origin, if go { 0 } else { hist.count });
    }
}

/// A symbolizer that knows every name, and counts how often the file would be opened.
#[derive(Default)]
struct Counted {
    prepared: RefCell<BTreeSet<u64>>,
    openings: Cell<usize>,
    asked: Cell<usize>,
}

impl Symbolizer for Counted {
    fn function_at(&self, gopc: u64) -> Option<Untrusted> {
        if self.prepared.borrow_mut().insert(gopc) {
            self.openings.set(self.openings.get() + 1);
        }
        self.asked.set(self.asked.get() + 1);
        Some(format!("main.f{gopc}").into())
    }

    fn prepare(&self, gopcs: &[u64]) {
        let mut prepared = self.prepared.borrow_mut();
        if gopcs.iter().filter(|gopc| prepared.insert(**gopc)).count() > 0 {
            self.openings.set(self.openings.get() + 1);
        }
    }
}

/// 20,000 names that were looked up one by one took two minutes for a program of 400 MB.
#[test]
fn all_names_are_looked_up_together() {
    const SITES: u64 = 20_000;
    let mut observed = fixtures::Observed::new(BucketScheme::Kernel);
    for gopc in 1..=SITES {
        observed.waits(HistogramKey::CreationSite(gopc), &[(1_000, 3), (200_000, 1)]);
    }
    for n in 0..50 {
        let wait = SlowWait {
            latency_ns: 16_000_000,
            goid: Some(100 + n),
            gopc: Some(SITES + 1 + n),
            origin: None,
            tid: 4243,
            p: None,
        };
        observed.see(fixtures::END_NS, Kind::Event(Event::SlowWait(wait)));
    }
    let names = Counted::default();
    let capture = observed.capture_named(Mode::Sampled, &names);
    assert_eq!(capture.by_creation_site.len(), SITES as usize);
    assert!(capture.slow.iter().all(|slow| slow.creation_site.is_some()));
    assert!(
        !capture.findings.is_empty(),
        "the findings name creation sites, too"
    );
    assert!(names.asked.get() > 2 * SITES as usize);
    assert_eq!(names.openings.get(), 1);
    // Each interval, too.
    let names = Counted::default();
    let interval = Interval::of(&observed.latency, false, &names, 0, 0, 1);
    assert!(interval.slow.iter().all(|slow| slow.creation_site.is_some()) && !interval.slow.is_empty());
    assert_eq!(names.openings.get(), 1);
}

#[test]
fn a_plugin_that_was_not_probed_all_the_time_makes_a_capture_incomplete() {
    let plugin = |problem: Option<&str>, unseen_ns| PluginSeen {
        path: "/srv/plug.so".into(),
        sites: 20,
        unseen_ns,
        problem: problem.map(Untrusted::from),
    };
    for (plugin, is_whole) in [
        (plugin(None, None), true),
        (plugin(Some("it was stripped of everything"), None), false),
        (plugin(None, Some(1_500_000)), false),
    ] {
        let mut capture = fixtures::sampled();
        capture.capture.complete = true;
        let notes = capture.capture.notes.len();
        capture.add_plugins(PluginsSeen {
            found: vec![plugin],
            unknown: None,
        });
        assert_eq!(capture.capture.complete, is_whole);
        assert_eq!(capture.capture.notes.len(), notes + usize::from(!is_whole));
        let value = round_trip(&capture);
        assert_eq!(value["capture"]["plugins"][0]["path"], "/srv/plug.so");
        let text = render(&capture, Style::default());
        assert_eq!(text.contains("not every wait was seen"), !is_whole, "{text}");
        assert!(text.contains("plugin /srv/plug.so"), "{text}");
    }
    let mut capture = fixtures::sampled();
    capture.capture.complete = true;
    capture.add_plugins(PluginsSeen {
        found: vec![],
        unknown: Some("no layout".into()),
    });
    assert!(!capture.capture.complete);
}

#[test]
fn a_model_that_inferred_too_much_is_not_complete() {
    let model = |misfits, transitions| ModelInfo {
        transitions,
        inferred: [("waiting->running".into(), misfits)].into(),
        ..ModelInfo::default()
    };
    assert!(model(10, 20).fits() && model(11, 11_000).fits());
    assert!(!model(11, 20).fits() && !model(11, 10_999).fits());
    assert_eq!(model(10, 20).shortcoming(), None);
    let why = model(5_200, 31_000).shortcoming().unwrap();
    assert!(why.starts_with("5200 of 31000 transitions did not fit"), "{why}");
}
