use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::{Command, Stdio},
};

use super::{
    families::{Kind, families},
    testing::{full, histogram, host, program, target},
    *,
};
use crate::stream::BucketScheme;

pub fn render(view: HostView, format: Format) -> Bytes {
    let mut counts = Counts::default();
    counts.answered.insert(("/metrics", 200), 3);
    Exposition::new().render(Arc::new(view), counts, format).unwrap()
}

fn text(view: HostView) -> String {
    String::from_utf8(render(view, Format::Text).to_vec()).unwrap()
}

/// Everything that can be shown, with hostile names.
pub fn everything() -> HostView {
    let mut hostile = full(77, 3);
    hostile.name.exe = "/tmp/a\"b\\c\nd{}=,\u{1b}[2J\u{202e}é".into();
    hostile.name.comm = String::from_utf8_lossy(b"\xff\xfe\"\\").into_owned().into();
    hostile
        .sampled_waits
        .insert("f\"} 1\nevil 7".into(), histogram(BucketScheme::Kernel, &[5_000]));
    let mut old = full(9, 1);
    old.runtime_waits = Some(histogram(BucketScheme::Go119, &testing::spread(50)));
    host([full(4242, 30), hostile, old, target(5)])
}

#[test]
fn promtool_has_nothing_to_say() {
    for (what, view) in [("everything", everything()), ("nothing", HostView::default())] {
        let mut promtool = Command::new(program("promtool"))
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let page = render(view, Format::Text);
        // Written while it reads, so that neither waits for the other's pipe.
        let mut stdin = promtool.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(&page));
        let output = promtool.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success() && said.is_empty(),
            "{what}: {}",
            String::from_utf8_lossy(&said)
        );
    }
}

#[test]
fn the_table_is_sound() {
    let mut names = BTreeSet::new();
    for family in families() {
        assert!(names.insert(family.name), "{} is there twice", family.name);
        let mut name = family.base().to_owned();
        if let Some(unit) = family.unit {
            name = format!("{name}_{unit}");
        }
        name += match family.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram(_) => "",
        };
        assert_eq!(name, family.name, "name and unit or type differ");
        assert!(
            !family.help.contains('\n') && family.help.ends_with('.'),
            "{}",
            family.name
        );
        let single = family.help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(family.help, single, "{}: spaces", family.name);
    }
    // Each is exported when all is known, with the labels that the table says.
    let process: BTreeSet<&str> = ["exe", "comm", "pid", "container", "pod"].into();
    let page = text(everything());
    for family in families() {
        let own: BTreeSet<&str> = family.labels.iter().copied().collect();
        assert!(
            page.contains(&format!("# TYPE {} ", family.name)),
            "{}",
            family.name
        );
        let lines = page.lines().filter(|line| {
            let rest = line
                .strip_prefix(family.name)
                .map(|rest| rest.trim_start_matches("_bucket").trim_start_matches("_count"));
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let mut seen = 0;
        for line in lines {
            seen += 1;
            for label in labels_of(line) {
                let known = own.contains(label.as_str()) || label == "le";
                let is_process = process.contains(label.as_str()) && line.contains("pid=\"");
                assert!(known || is_process, "{label} of {line}");
            }
        }
        assert!(seen > 0, "{} has no series", family.name);
    }
}

/// Names of the labels of a line of text.
fn labels_of(line: &str) -> Vec<String> {
    let Some((_, rest)) = line.split_once('{') else {
        return Vec::new();
    };
    let (mut names, mut name, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in rest.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '=' => names.push(std::mem::take(&mut name)),
            ',' => {}
            '}' => break,
            c => name.push(c),
        }
    }
    names
}

#[test]
fn what_is_not_known_has_no_series() {
    let page = text(host([target(5)]));
    for absent in [
        "gmpscope_sched_latencies",
        "gmpscope_goroutines",
        "gmpscope_run_queue",
        "gmpscope_runnable",
        "gmpscope_cgroup",
        "gmpscope_stw",
        "gmpscope_lost_total",
        "container=",
    ] {
        assert!(!page.contains(absent), "{absent}");
    }
    assert!(
        page.contains("gmpscope_probe_hits_total{exe=\"/srv/app/server\",comm=\"server\",pid=\"5\"} 0\n")
    );
}

#[test]
fn the_same_view_is_the_same_text_and_a_dead_process_is_gone() {
    let exposition = Exposition::new();
    let of = |view: HostView| {
        let bytes = exposition
            .render(Arc::new(view), Counts::default(), Format::Text)
            .unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let mut reversed = everything();
    reversed.targets.reverse();
    let first = of(everything());
    assert_eq!(first, of(everything()));
    assert_eq!(first, of(reversed));
    assert!(first.contains("pid=\"4242\""));
    let later = of(host([target(5)]));
    assert!(!later.contains("pid=\"4242\"") && later.contains("pid=\"5\""));
}

#[test]
fn a_pid_that_is_there_twice_is_the_younger() {
    let mut old = target(5);
    old.name.start_time -= 1;
    old.name.comm = "older".into();
    for targets in [vec![target(5), old.clone()], vec![old.clone(), target(5)]] {
        let page = text(host(targets));
        assert!(!page.contains("older"));
        assert_eq!(page.matches("gmpscope_probe_hits_total{").count(), 1);
    }
}

#[test]
fn classic_text_and_openmetrics_differ() {
    let view = || host([full(1, 2)]);
    let classic = text(view());
    assert!(classic.contains("# TYPE gmpscope_probe_hits_total counter\n"));
    assert!(classic.contains("# TYPE gmpscope_target_info gauge\n"));
    assert!(!classic.contains("# EOF") && !classic.contains("# UNIT"));
    let open = String::from_utf8(render(view(), Format::OpenMetrics).to_vec()).unwrap();
    assert!(open.contains("# TYPE gmpscope_probe_hits counter\n"));
    assert!(open.contains("# TYPE gmpscope_target info\n"));
    assert!(open.contains("# UNIT gmpscope_sched_latencies_seconds seconds\n"));
    assert!(open.ends_with("# EOF\n"));
    for page in [&classic, &open] {
        assert!(!page.contains("_created"));
        assert!(page.contains("gmpscope_probe_hits_total{"));
    }
    assert!(
        classic.contains("le=\"1.023e-06\""),
        "bounds are written as Go does"
    );
}

/// Compares the page with the table; writes it if GMPSCOPE_UPDATE_DOCS is set.
#[test]
fn the_metrics_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = document();
    if std::env::var_os("GMPSCOPE_UPDATE_DOCS").is_some() {
        std::fs::write(path, page).unwrap();
        return;
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == page,
        "{path} is not what the table says: GMPSCOPE_UPDATE_DOCS=1 cargo test -p tracer-user metrics_page"
    );
}

#[test]
fn a_histogram_is_the_same_in_all_its_parts() {
    let waits = testing::spread(2000);
    let page = text(host([full(1, 0)]));
    let value = |line: &str| -> f64 { line.rsplit(' ').next().unwrap().parse().unwrap() };
    let of = |suffix: &str| -> Vec<&str> {
        let start = format!("gmpscope_sched_latencies_seconds{suffix}{{");
        page.lines().filter(|line| line.starts_with(&start)).collect()
    };
    assert_eq!(value(of("_count")[0]), 2000.0);
    let sum: u64 = waits.iter().sum();
    let shown = value(of("_sum")[0]);
    assert!((shown / (sum as f64 / 1e9) - 1.0).abs() < 0.125, "{shown}");
    let buckets: BTreeMap<String, f64> = of("_bucket")
        .iter()
        .map(|line| {
            let le = line.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
            (le.to_owned(), value(line))
        })
        .collect();
    assert_eq!(buckets.len(), 48);
    assert_eq!(buckets["+Inf"], 2000.0);
    for (le, count) in &buckets {
        let bound: f64 = if le == "+Inf" {
            f64::INFINITY
        } else {
            le.parse().unwrap()
        };
        let really = waits.iter().filter(|ns| **ns as f64 / 1e9 <= bound).count();
        assert_eq!(*count, really as f64, "{le}");
    }
}
