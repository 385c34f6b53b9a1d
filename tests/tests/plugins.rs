//! Plugins (`-buildmode=plugin`) run their own copies of the runtime's functions: what is probed in the program has to be
//! probed in each of them, too.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::run::{Attach, gmpscope_with};
use gmpscope_tests::scenario::Case;
use gmpscope_tests::toolchain::Toolchain;
use gmpscope_tests::{Variant, machine, toolchain};
use tracer_user::stream::plugin::PluginSeen;

/// The host on one P, with these arguments besides the plugin.
fn host(toolchain: &Toolchain, args: &[&'static str]) -> Result<Case> {
    let plugin = Variant::Plugin.build(toolchain, "plugin_pingpong")?;
    // Lives as long as the test, like the other arguments.
    let plugin: &'static str = Box::leak(plugin.display().to_string().into_boxed_str());
    let args = [&["-plugin", plugin][..], args].concat();
    Ok(Case::new(toolchain, Variant::Cgo, "plugin_host")
        .gomaxprocs(1)
        .args(&args))
}

fn the_only(plugins: &[PluginSeen]) -> Result<&PluginSeen> {
    match plugins {
        [plugin] => Ok(plugin),
        _ => anyhow::bail!("there is one plugin: {plugins:?}"),
    }
}

#[test]
fn waits_in_a_plugin_are_counted() -> Result<()> {
    let _one = machine();
    for toolchain in toolchain::selection()? {
        let case = host(&toolchain, &[])?;
        for mode in ["sampled", "exact", "full"] {
            let name = format!("Go {}, {mode}", toolchain.version());
            let measured = case.agrees(mode, false).map_err(anyhow::Error::msg)?;
            let capture = &measured.capture;
            let plugin = the_only(&capture.capture.plugins).with_context(|| name.clone())?;
            ensure!(
                plugin.is_whole() && plugin.sites > 0 && plugin.path.raw().ends_with("plugin_pingpong"),
                "{name}: {plugin:?}"
            );
            let (waits, iterations) = (capture.runnable_to_running.count, measured.iterations);
            ensure!(iterations > 1000, "{name}: only {iterations} iterations");
            if mode != "sampled" {
                ensure!(
                    waits.abs_diff(2 * iterations) <= iterations / 100 + 50,
                    "{name}: {waits} waits in {iterations} iterations"
                );
            }
            // Names come from the plugin's own tables.
            if mode != "exact" {
                let sites: Vec<&str> = capture.by_creation_site.keys().map(|site| site.raw()).collect();
                ensure!(
                    sites.iter().any(|site| site.ends_with(".Work")),
                    "{name}: {sites:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_plugin_that_is_loaded_later_is_probed_from_then_on() -> Result<()> {
    let _one = machine();
    let toolchain = toolchain::newest()?;
    for mode in ["sampled", "exact", "full"] {
        let mut workload = host(&toolchain, &["-late"])?.start()?;
        let tracer = Attach::to(workload.pid()).mode(mode).start()?;
        let parked = workload.go_during(Duration::from_millis(1500))?;
        let outcome = tracer.interrupt()?;
        ensure!(
            outcome.code() == 5,
            "{mode}: {}: {}",
            outcome.code(),
            outcome.stderr
        );
        let capture = outcome.capture.context("no capture")?;
        let plugin = the_only(&capture.capture.plugins)?;
        let unseen_ns = plugin.unseen_ns.context("nothing was unseen")?;
        ensure!(
            plugin.problem.is_none() && plugin.sites > 0 && unseen_ns < 2_000_000_000,
            "{mode}: {plugin:?}"
        );
        ensure!(!capture.capture.complete, "{mode}: complete");
        let notes: Vec<String> = capture.capture.notes.iter().map(ToString::to_string).collect();
        ensure!(
            notes
                .iter()
                .any(|note| note.contains("plugin_pingpong was loaded during the capture")),
            "{mode}: {notes:?}"
        );
        let waits = capture.runnable_to_running.count;
        ensure!(
            waits > 1000 && waits <= 2 * parked.iterations + 1000,
            "{mode}: {waits} waits in {} iterations",
            parked.iterations
        );
    }
    Ok(())
}

#[test]
fn inspect_lists_the_plugins_of_a_process() -> Result<()> {
    let _one = machine();
    let workload = host(&toolchain::newest()?, &[])?.start()?;
    let pid = workload.pid().to_string();
    let inspected = gmpscope_with(["inspect", &pid, "--format", "json"])?;
    let json: serde_json::Value = serde_json::from_str(&inspected.json.context("no JSON")?)?;
    let plugins = json["process"]["plugins"].as_array().context("no plugins")?;
    ensure!(plugins.len() == 1, "{plugins:?}");
    for mode in ["sampled", "exact", "full"] {
        ensure!(
            plugins[0]["sites"][mode].as_u64().is_some_and(|sites| sites > 0),
            "{mode}: {plugins:?}"
        );
    }
    Ok(())
}
