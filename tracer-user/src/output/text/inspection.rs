//! Renders an [`Inspection`].

use std::{collections::BTreeMap, fmt::Write};

use crate::plan::{Emulation, SINGLE_STEP_FACTOR};
use crate::{
    document::inspection::{
        Activity, Binary, Inspection, Layouts, ModePlan, PluginInfo, Prediction, Process, SiteInfo,
    },
    escape::escape,
    output::text::{
        layout::{WIDTH, go_version, tail, word, wrap},
        units::duration,
    },
};

/// Column at which values begin.
const VALUES: usize = 12;
/// Columns of a site's function and offset.
const PLACE: usize = 34;
/// Columns of a site's instruction.
const INSTRUCTION: usize = 22;

impl Inspection {
    /// Renders it as text of at most 80 columns.
    pub fn text(&self) -> String {
        let mut text = String::new();
        binary(&mut text, &self.binary);
        if let Some(it) = &self.process {
            process(&mut text, it);
        }
        layouts(&mut text, &self.layouts);
        let (found, lost): (Vec<_>, Vec<_>) = self.globals.iter().partition(|(_, address)| address.is_some());
        field(
            &mut text,
            "globals",
            &listed(found.iter().map(|(name, _)| **name)),
        );
        if !lost.is_empty() {
            field(
                &mut text,
                "not found",
                &listed(lost.iter().map(|(name, _)| **name)),
            );
        }
        if let Some(verdicts) = &self.globals_in_memory {
            in_memory(&mut text, verdicts);
        }
        text.push('\n');
        modes(&mut text, &self.modes);
        for mode in &self.modes {
            details(&mut text, mode);
        }
        text
    }
}

/// Appends `name` and its value, which may take several lines.
fn field(text: &mut String, name: &str, value: &str) {
    let wrapped = wrap(&escape(value), VALUES);
    // Writing to a String cannot fail.
    let _ = write!(text, "{name:<VALUES$}{}", wrapped.get(VALUES..).unwrap_or("-\n"));
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

fn binary(text: &mut String, it: &Binary) {
    field(text, "binary", &word(&it.path, usize::MAX));
    let mut traits = vec![
        go_version(&it.go_version),
        it.arch.to_owned(),
        it.build_mode.to_owned(),
    ];
    for (has, name) in [
        (it.stripped, "stripped"),
        (it.cgo, "cgo"),
        (it.pgo, "PGO"),
        (it.external_linking, "linked by a C linker"),
        (it.dynamic, "needs the dynamic loader"),
    ] {
        if has {
            traits.push(name.to_owned());
        }
    }
    traits.push(format!("{:.1} MB", it.size as f64 / 1e6));
    field(text, "built", &traits.join(", "));
    if let Some(path) = &it.main_path {
        field(text, "package", &word(path, usize::MAX));
    }
}

fn process(text: &mut String, it: &Process) {
    let mut traits = vec![
        format!("{} ({})", it.pid, word(&it.comm, WIDTH)),
        format!("user {}", it.uid),
    ];
    if let Some(n) = it.gomaxprocs {
        traits.push(format!("GOMAXPROCS={n}"));
    }
    if let Some(cpus) = it.cgroup_cpu_limit {
        traits.push(format!("cgroup limit {cpus} CPUs"));
    }
    if let Some(n) = it.goroutines {
        traits.push(format!("{n} goroutines or less"));
    }
    if it.in_container {
        traits.push("in another mount namespace".into());
    }
    field(text, "process", &traits.join(", "));
    for it in &it.plugins {
        field(text, "plugin", &plugin(it));
    }
    if let Some(why) = &it.plugins_unknown {
        field(text, "plugins", &format!("not known: {why}"));
    }
    if let Some(activity) = &it.activity {
        field(text, "activity", &watched(activity));
    }
}

/// Describes a plugin: what is probed in it besides the sites of the program, and what is not.
fn plugin(it: &PluginInfo) -> String {
    let mut text = format!(
        "{}: has its own copy of the scheduler's functions",
        word(&it.path, usize::MAX)
    );
    let sites: Vec<String> = it
        .sites
        .iter()
        .map(|(mode, sites)| format!("{mode} {sites}"))
        .collect();
    // Writing to a String cannot fail.
    if !sites.is_empty() {
        let _ = write!(text, "; further sites: {}", sites.join(", "));
    }
    for (mode, why) in &it.problems {
        let _ = write!(text, "; not probed in {mode}, which is then incomplete: {why}");
    }
    text
}

fn watched(it: &Activity) -> String {
    format!(
        "in {}: {} of CPU time, {} waits tracked by the runtime itself",
        duration(it.window_ns),
        duration(it.cpu_ns),
        it.tracked_waits
    )
}

fn layouts(text: &mut String, it: &Layouts) {
    let value = match (&it.source, &it.problem) {
        (Some(source), _) => source.as_str(),
        (None, Some(problem)) => problem.as_str(),
        (None, None) => "unknown",
    };
    field(text, "layouts", value);
    if !it.candidates.is_empty() {
        field(text, "candidates", &it.candidates.join("; "));
    }
}

fn in_memory(text: &mut String, verdicts: &BTreeMap<&'static str, String>) {
    let doubts: Vec<String> = verdicts
        .iter()
        .filter(|(_, verdict)| *verdict != "confirmed")
        .map(|(name, verdict)| format!("{name} {verdict}"))
        .collect();
    let summary = if doubts.is_empty() {
        "all confirmed".to_owned()
    } else {
        doubts.join("; ")
    };
    field(text, "in memory", &summary);
}

fn modes(text: &mut String, all: &[ModePlan]) {
    let forecast = all.iter().any(|mode| mode.prediction.is_some());
    let _ = writeln!(
        text,
        "{:<9}{:<9}{:>5}{:>12}{:>16}{}",
        "mode",
        "possible",
        "sites",
        "hits/cycle",
        "cost/cycle",
        if forecast { "   expected here and now" } else { "" }
    );
    for mode in all {
        let sites = if mode.mode.has_probes() && possible(mode) != "no" {
            mode.sites.len().to_string()
        } else {
            "-".into()
        };
        let [low, high] = mode.cost_per_cycle_ns;
        let cost = if high == 0 {
            "0".into()
        } else {
            format!("{}..{}", duration(low), duration(high))
        };
        let expected = mode
            .prediction
            .filter(|_| mode.possible)
            .map(|p| expected(&p))
            .unwrap_or_default();
        let line = format!(
            "{:<9}{:<9}{:>5}{:>12}{:>16}   {expected}",
            mode.mode,
            possible(mode),
            sites,
            hits(mode.hits_per_cycle),
            cost,
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Renders whether a mode is possible: `if live` if it takes a process whose memory confirms the layout.
fn possible(mode: &ModePlan) -> &'static str {
    match (mode.possible, mode.possible_once_confirmed) {
        (true, _) => "yes",
        (false, Some(true)) => "if live",
        (false, _) => "no",
    }
}

/// Renders hits per cycle: `1/8` rather than `0.125`.
fn hits(per_cycle: f64) -> String {
    if per_cycle > 0.0 && per_cycle < 1.0 {
        format!("1/{:.0}", 1.0 / per_cycle)
    } else {
        format!("{per_cycle:.0}")
    }
}

/// Renders `1k..2k hits/s, CPU +0.1..0.3%`, and from twice the CPU time on `CPU x2.1..4.3`; at most 26 columns.
fn expected(it: &Prediction) -> String {
    let [low, high] = it.hits_per_second;
    let rate = if low == high {
        short(low)
    } else {
        format!("{}..{}", short(low), short(high))
    };
    match it.cpu_ratio {
        Some([low, high]) if high >= 1.0 => {
            format!("{rate}/s, CPU x{}..{}", factor(1.0 + low), factor(1.0 + high))
        }
        Some([low, high]) if high > 0.0 => format!(
            "{rate}/s, CPU +{}..{}%",
            factor(low * 100.0),
            factor(high * 100.0)
        ),
        _ if high == 0.0 => "no hits".into(),
        _ => format!("{rate} hits/s"),
    }
}

fn short(n: f64) -> String {
    match n {
        n if n < 999.5 => format!("{n:.0}"),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n => format!("{}M", factor(n / 1e6)),
    }
}

/// Renders a factor with two digits, since it is a forecast.
fn factor(n: f64) -> String {
    if n < 9.95 {
        format!("{n:.1}")
    } else {
        format!("{n:.0}")
    }
}

fn details(text: &mut String, mode: &ModePlan) {
    if mode.sites.is_empty() && mode.obstacles.is_empty() && mode.tried.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", mode.mode);
    for obstacle in &mode.obstacles {
        let verdict = if possible(mode) == "no" {
            "cannot be had: "
        } else {
            ""
        };
        text.push_str(&wrap(&format!("{verdict}{}", escape(obstacle)), 2));
    }
    for attempt in &mode.tried {
        text.push_str(&wrap(
            &escape(&format!("tried {}: {}", attempt.what, attempt.outcome)),
            2,
        ));
    }
    for site in &mode.sites {
        text.push_str(&line(site));
    }
}

/// Renders a site in one line.
fn line(site: &SiteInfo) -> String {
    let function = site.function.raw();
    let function = function.strip_prefix("runtime.").unwrap_or(function);
    let place = tail(&escape(&format!("{function}+{:#x}", site.offset)), PLACE);
    let instruction: String = escape(&site.instruction).chars().take(INSTRUCTION).collect();
    let line = format!(
        "  {place:<PLACE$} {instruction:<INSTRUCTION$} {}",
        escape(&site.meaning)
    );
    let cut: String = line.chars().take(WIDTH).collect();
    let remark = match site.emulation {
        Emulation::Emulated => String::new(),
        Emulation::SingleStepped => {
            format!("    single-stepped by the kernel: costs {SINGLE_STEP_FACTOR} times as much\n")
        }
        Emulation::Refused => "    refused by the kernel\n".to_owned(),
    };
    cut.trim_end().to_owned() + "\n" + &remark
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        document::inspection::SCHEMA,
        plan::{Attempt, Mode},
    };

    fn inspection() -> Inspection {
        let site = SiteInfo {
            function: "runtime.(*gcControllerState).findRunnableGCWorker\x1b[2J".into(),
            offset: 0x1150,
            instruction: "call 0x0123456789abcdef, and more than fits".into(),
            emulation: Emulation::SingleStepped,
            meaning: "runnable: preempted".into(),
        };
        let mode = |mode, possible, hits: f64| ModePlan {
            mode,
            possible,
            possible_once_confirmed: None,
            obstacles: if possible {
                vec![]
            } else {
                vec!["CAP_BPF: not held; run as root".into()]
            },
            tried: vec![Attempt {
                what: "this".into(),
                outcome: "did not do ".repeat(20),
            }],
            hits_per_cycle: hits,
            cost_per_cycle_ns: [(1400.0 * hits) as u64, (2600.0 * hits) as u64],
            prediction: Some(Prediction {
                hits_per_second: [4.1e6 * hits, 7.9e6 * hits],
                cpu: [1.0, 2.0],
                cpu_ratio: Some([3.26, 12.12]),
            }),
            sites: vec![site.clone()],
        };
        Inspection {
            schema: SCHEMA,
            binary: Binary {
                path: ("/a/long/path".repeat(12) + "\u{202e}").into(),
                size: 12_345_678,
                go_version: "1.27.3 X:nodwarf5".into(),
                arch: "amd64",
                build_mode: "pie",
                stripped: true,
                cgo: true,
                pgo: true,
                external_linking: true,
                dynamic: true,
                main_path: Some("example.com/cmd".into()),
            },
            process: None,
            layouts: Layouts {
                source: None,
                problem: Some("the layout is not known ".repeat(9)),
                candidates: vec!["that of go1.22.10".into(); 5],
            },
            globals_in_memory: Some([("allp", "confirmed".to_owned())].into()),
            globals: [("sched", None), ("allp", Some("0x1".into()))].into(),
            modes: vec![mode(Mode::Sampled, false, 0.125), mode(Mode::Exact, true, 2.0)],
        }
    }

    #[test]
    fn it_fits_80_columns_but_for_a_path_and_is_harmless_on_a_terminal() {
        let text = inspection().text();
        for line in text.lines().filter(|line| !line.contains("/a/long/path")) {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(
            !text.chars().any(|c| c != '\n' && crate::escape::is_dangerous(c)),
            "{text}"
        );
        assert!(text.contains("exact    yes"), "{text}");
        assert!(text.contains("cannot be had: CAP_BPF: not held"), "{text}");
        assert!(text.contains("single-stepped"), "{text}");
    }

    #[test]
    fn a_mode_that_takes_a_live_process_is_neither_possible_nor_impossible() {
        let mut inspection = inspection();
        let mode = &mut inspection.modes[0];
        mode.possible_once_confirmed = Some(true);
        mode.obstacles = vec!["it will be possible in a process".into()];
        let text = inspection.text();
        assert!(text.contains("sampled  if live"), "{text}");
        assert!(text.contains("\n  it will be possible in a process\n"), "{text}");
        assert!(!text.contains("cannot be had"), "{text}");
        assert!(text.contains("candidates  that of go1.22.10; that of"), "{text}");
    }

    #[test]
    fn json_says_the_same() {
        let json = serde_json::to_value(inspection()).unwrap();
        assert_eq!(json["schema"], SCHEMA);
        assert_eq!(json["modes"][0]["possible"], false);
        assert_eq!(json["globals"]["sched"], serde_json::Value::Null);
    }
}
