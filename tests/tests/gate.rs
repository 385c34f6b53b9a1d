//! `run --follow` does not affect programs of others when it is stopped or killed; `gate_descriptors.rs` has what it does
//! where it is short of descriptors.
//!
//! The tests run on a file system of their own, with a copy of gmpscope that sees no other.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::following::{Following, Other, island, said, send, tree, within};
use gmpscope_tests::host::watchdogs_of;
use gmpscope_tests::{environment, machine};

/// How long an execve may wait for a stopped gmpscope: some 0.3 s, and what a busy machine adds.
const BOUND: Duration = Duration::from_secs(3);

/// Whether a process exists and is not a zombie.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, behind)| !behind.starts_with('Z'))
}

#[test]
fn nobody_waits_long_for_a_gmpscope_that_is_stopped() -> Result<()> {
    let _one = machine();
    let island = island()?;
    let running = Following::start_loop(&island)?;
    running.stop_while_it_holds()?;
    // The stop may take effect a moment later.
    let others: Vec<Other> = (0..8)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            Other::execute(&island, "/bin/family")
        })
        .collect();
    for other in others {
        let took = other.took()?;
        ensure!(took < BOUND, "the execve of another took {took:?}");
    }
    // The command's own programs continue, too, and later ones do not wait.
    running.wait_for_more(&island)?;
    let took = Other::execute(&island, "/bin/family").took()?;
    ensure!(took < BOUND, "a later execve of another took {took:?}");
    running.signal(libc::SIGCONT);
    let resumed_ns = environment::monotonic_ns();
    // It holds programs again, and traces them.
    for _ in 0..4 {
        running.wait_for_more(&island)?;
    }
    ensure!(watchdogs_of(running.pid())?.len() == 1);
    let capture = running.finish(&island)?;
    let tree = tree(&capture)?;
    println!("{tree:?} {:?}", capture.capture.notes);
    ensure!(tree.released_unprobed > 0 && tree.unseen > 0, "{tree:#?}");
    ensure!(!capture.capture.complete, "{:#?}", capture.capture);
    let notes: Vec<String> = capture.capture.notes.iter().map(ToString::to_string).collect();
    let notes = notes.join("\n");
    ensure!(notes.contains("gmpscope was stopped"), "{notes}");
    let init = capture.init.as_ref().context("no init")?;
    let behind = init
        .starts
        .iter()
        .filter(|start| start.t0_ns > resumed_ns)
        .count() as u64;
    ensure!(
        behind > 0 && init.runs > behind,
        "{behind} behind the stop: {init:#?}"
    );
    ensure!(
        init.runs + init.unfinished + tree.others + tree.unseen + tree.ended_early == tree.execs,
        "{init:#?}"
    );
    Ok(())
}

#[test]
fn killed_while_it_and_its_watchdog_are_stopped_it_lets_everything_go() -> Result<()> {
    let _one = machine();
    let island = island()?;
    let mut running = Following::start_loop(&island)?;
    let watchdog = running.watchdog()?;
    send(watchdog, libc::SIGSTOP);
    running.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(100));
    let other = Other::execute(&island, "/bin/family");
    std::thread::sleep(Duration::from_millis(800));
    ensure!(!other.is_done(), "nothing waited: this proves nothing");
    running.signal(libc::SIGKILL);
    running.ended()?;
    other.took()?;
    within("the watchdog has ended", || Ok(!is_alive(watchdog)))?;
    // The command continues alone.
    running.wait_for_more(&island)?;
    running.end_loop()?;
    within("the command ends", || Ok(said(&island)?.ends_with("done\n")))
}

#[test]
fn the_watchdog_keeps_nothing_open_and_ends_with_gmpscope() -> Result<()> {
    let _one = machine();
    let island = island()?;
    let running = Following::start_loop(&island)?;
    let watchdog = running.watchdog()?;
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{watchdog}/fd"))? {
        open.push(fs::read_link(entry?.path())?);
    }
    open.sort();
    let expected = ["anon_inode:[eventfd]", "anon_inode:[fanotify]"].map(PathBuf::from);
    ensure!(open == expected, "{open:?}");
    // Signals that reach everybody (a stop of the service, Ctrl-C) are gmpscope's to act on.
    send(watchdog, libc::SIGTERM);
    send(watchdog, libc::SIGINT);
    running.wait_for_more(&island)?;
    ensure!(running.watchdog()? == watchdog);
    let capture = running.finish(&island)?;
    ensure!(
        capture.capture.complete,
        "{:#?} {:#?}",
        capture.capture,
        tree(&capture)?
    );
    ensure!(!is_alive(watchdog), "the watchdog is left");
    Ok(())
}

#[test]
fn a_watchdog_that_is_killed_is_replaced() -> Result<()> {
    let _one = machine();
    let island = island()?;
    let running = Following::start_loop(&island)?;
    let first = running.watchdog()?;
    send(first, libc::SIGKILL);
    within("another watchdog", || {
        let now = watchdogs_of(running.pid())?;
        Ok(!now.is_empty() && !now.contains(&first))
    })?;
    running.wait_for_more(&island)?;
    running.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(100));
    let took = Other::execute(&island, "/bin/family").took()?;
    ensure!(took < BOUND, "{took:?}");
    running.signal(libc::SIGCONT);
    running.finish(&island)?;
    Ok(())
}

#[test]
fn a_signal_of_the_terminal_stops_gmpscope_and_nobody_waits() -> Result<()> {
    let _one = machine();
    let island = island()?;
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        let running = Following::start_loop(&island)?;
        running.signal(signal);
        let stat = format!("/proc/{}/stat", running.pid());
        within("it stops", || Ok(fs::read_to_string(&stat)?.contains(") T ")))?;
        ensure!(
            watchdogs_of(running.pid())?.is_empty(),
            "signal {signal}: it holds programs"
        );
        let took = Other::execute(&island, "/bin/family").took()?;
        ensure!(took < BOUND, "signal {signal}: {took:?}");
        running.signal(libc::SIGCONT);
        // The command was stopped with it, by the same signal.
        running.wait_for_more(&island)?;
        // It holds programs again.
        running.watchdog()?;
        running.finish(&island)?;
        fs::remove_file(island.path("tmp/end"))?;
    }
    Ok(())
}
