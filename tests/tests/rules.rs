//! Each rule fires on a real program with the pathology that it names, and is silent on the twin, in which only that
//! pathology is missing: real quotas of CPU time, real processes beside it, a real limit of threads.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::again::{Verdict, once_more};
use gmpscope_tests::rules::{compare, scenes, table::wrong};
use gmpscope_tests::{environment, machine};

/// Compares the program and the twin of a scene. A twin on which a rule fires is captured once more: on a machine with other
/// load, what it names may be so.
fn holds(name: &str) -> Result<()> {
    let _one = machine();
    let scene = scenes::named(name).with_context(|| format!("there is no scene {name}"))?;
    once_more(|| {
        let compared = compare(scene)?;
        for one in &compared {
            ensure!(one.fires(), "{}", wrong(scene, one).unwrap_or_default());
        }
        let wrong: Vec<String> = compared.iter().filter_map(|one| wrong(scene, one)).collect();
        Ok(Verdict::unless(!wrong.is_empty(), || wrong.join("\n")))
    })
}

#[test]
fn ps_that_are_all_busy_and_waits_behind_them() -> Result<()> {
    holds("saturated")
}

#[test]
fn ps_that_are_all_busy_are_seen_without_a_probe() -> Result<()> {
    holds("saturated_without_probes")
}

#[test]
fn a_quota_that_is_used_up_and_a_sysmon_that_is_late() -> Result<()> {
    holds("throttled")
}

#[test]
fn a_noisy_neighbour() -> Result<()> {
    holds("neighbour")
}

#[test]
fn a_loop_that_cannot_be_interrupted_and_the_stops_that_wait_for_it() -> Result<()> {
    holds("stubborn")
}

#[test]
fn a_collector_that_takes_ps() -> Result<()> {
    holds("collected")
}

#[test]
fn goroutines_that_allocate_and_wait_for_the_collector() -> Result<()> {
    holds("assisting")
}

#[test]
fn a_lock_that_is_passed_to_goroutines_that_do_not_run() -> Result<()> {
    holds("locks")
}

#[test]
fn a_thundering_herd() -> Result<()> {
    holds("herd")
}

#[test]
fn threads_in_system_calls_and_a_limit_that_is_near() -> Result<()> {
    holds("blocked")
}

#[test]
fn a_leak_a_gomaxprocs_that_changes_and_a_scheduler_that_prints() -> Result<()> {
    holds("leaking")
}

#[test]
fn threads_that_are_woken_for_next_to_nothing() -> Result<()> {
    holds("trickle")
}

#[test]
fn yields_that_are_most_of_all_waits() -> Result<()> {
    holds("yielding")
}

/// The page that describes the rules has all of them: a unit test compares.
#[test]
fn every_rule_has_a_scene_or_a_reason_and_every_scene_a_test() -> Result<()> {
    let page = environment::package().join("../docs/findings.md");
    let page = std::fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
    let described = page
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0));
    let described: BTreeSet<&str> = described.collect();
    let of_scenes = scenes::SCENES.iter().flat_map(|scene| scene.rules).copied();
    let without = scenes::WITHOUT.iter().map(|(rule, _)| *rule);
    let covered: BTreeSet<&str> = of_scenes.chain(without).collect();
    ensure!(described == covered, "{described:?}\n{covered:?}");
    let tests = include_str!("rules.rs");
    let untested: Vec<&str> = scenes::SCENES
        .iter()
        .map(|scene| scene.name)
        .filter(|name| !tests.contains(&format!("holds(\"{name}\")")))
        .collect();
    ensure!(untested.is_empty(), "scenes without a test: {untested:?}");
    Ok(())
}
