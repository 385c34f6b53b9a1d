//! `run --follow` is short of descriptors: programs of others are executed all the same, and a limit that is too low is
//! refused before anything is held.
//!
//! The tests run on a file system of their own, with a copy of gmpscope that sees no other.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::following::{Following, capture, follow, island, said, storm, tree};
use gmpscope_tests::machine;

/// Sets the soft and hard limits of descriptors.
fn limited(mut command: Command, soft: libc::rlim_t, hard: libc::rlim_t) -> Command {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the closure makes one system call, on memory of its own.
    unsafe {
        command.pre_exec(
            move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            },
        );
    }
    command
}

#[test]
fn no_program_is_refused_for_want_of_descriptors() -> Result<()> {
    let _one = machine();
    const PROGRAMS: usize = 24;
    for limit in [128, 160, 256] {
        let island = island()?;
        // Each is a separate file, which takes a descriptor while it waits, and more when it is probed.
        for n in 0..PROGRAMS {
            fs::copy(island.path("bin/family"), island.path(&format!("bin/family{n}")))?;
        }
        let line: String = (0..PROGRAMS)
            .map(|n| format!("for i in 1 2; do /bin/family{n} exit 0 || echo refused $?; done & "))
            .collect();
        let command = limited(follow(&island, &format!("{line} wait; echo done")), limit, limit);
        let mut following = Following::start(&island, command)?;
        let mut ended = None;
        let others = storm(&island, || {
            ended = following.status()?;
            Ok(ended.is_some())
        })?;
        let said = said(&island)?;
        ensure!(ended.is_some_and(|status| status.success()), "{limit}: {said}");
        ensure!(
            said.ends_with("done\n") && !said.contains("refused"),
            "{limit}: {said}"
        );
        ensure!(said.matches("main ").count() == 2 * PROGRAMS, "{limit}: {said}");
        ensure!(others > 3, "{limit}: {others} others");
        // Starts that were not traced are counted: every execve is in one of these.
        let capture = capture(&island)?;
        let tree = tree(&capture)?;
        let init = capture.init.as_ref().context("no init")?;
        println!(
            "limit {limit}: {others} others; {tree:?}; {:?}",
            capture.capture.notes
        );
        ensure!(
            init.runs + init.unfinished + tree.others + tree.unseen + tree.ended_early == tree.execs,
            "{limit}: {init:#?}"
        );
        ensure!(tree.execs == 2 * PROGRAMS as u64 + 1, "{limit}: {tree:#?}");
        ensure!(
            capture.capture.complete == (tree.unseen == 0),
            "{limit}: {:#?}",
            capture.capture
        );
    }
    Ok(())
}

#[test]
fn too_few_descriptors_are_refused_before_anything_is_held() -> Result<()> {
    let _one = machine();
    let island = island()?;
    for limit in [112, 64, 40] {
        let output = limited(follow(&island, "echo ran"), limit, limit).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(125),
            "{limit}: {} {stderr}",
            output.status
        );
        ensure!(output.stdout.is_empty(), "{limit}: the command was run");
        let named = ["RLIMIT_NOFILE", &limit.to_string(), "128", "ulimit -n"];
        ensure!(
            named.iter().all(|name| stderr.contains(name)),
            "{limit}: {stderr}"
        );
    }
    Ok(())
}

#[test]
fn the_limit_is_raised_for_gmpscope_and_not_for_the_command() -> Result<()> {
    let _one = machine();
    let island = island()?;
    let script = "ulimit -Sn; ulimit -Hn; while read line; do case $line in \
                  'Max open files'*) echo $line;; esac; done < /proc/$PPID/limits";
    let output = limited(follow(&island, script), 64, 1024).output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    ensure!(
        lines == ["64", "1024", "Max open files 1024 1024 files"],
        "{stdout} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
