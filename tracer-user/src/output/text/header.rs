//! Renders what was traced, how, and for how long.

use std::fmt::Write;

use crate::document::capture::Capture;
use crate::output::options::SplitBy;
use crate::output::text::layout::{WIDTH, go_version, word, wrap};
use crate::output::text::units::{percent, seconds};
use crate::stream::EndedBy;

/// Renders the header. `by` is what waits are split by below.
pub fn render(capture: &Capture, by: SplitBy) -> String {
    let (target, how) = (&capture.target, &capture.capture);
    let mut target_line = format!("process {} {}, ", target.pid, word(&target.exe, WIDTH * 3 / 4));
    target_line.push_str(&match target.go_version.raw() {
        "" => "itself no Go program".to_owned(),
        _ => format!("{} {}", go_version(&target.go_version), word(&target.arch, WIDTH)),
    });
    // Writing to a String cannot fail.
    if let Some(gomaxprocs) = target.gomaxprocs {
        let _ = write!(target_line, ", GOMAXPROCS {gomaxprocs}");
    }
    if let Some(limit) = target.cgroup_cpu_limit {
        let _ = write!(target_line, ", cgroup limit {limit:.2} CPUs");
    }
    let mut text = wrap(&target_line, 0);
    if capture.runnable_to_running.is_absent() {
        return text;
    }
    let waits = capture.waits().count;
    let ended = match how.ended_by {
        EndedBy::Duration => "",
        EndedBy::Signal => ", ended by a signal",
        EndedBy::TargetExit => ", ended because the process exited",
        EndedBy::TargetExec => ", ended because the process executed another program",
        EndedBy::SourceFailed
        | EndedBy::Budget
        | EndedBy::ReaderGone
        | EndedBy::Starts
        | EndedBy::RecordingCut => ", ended early",
    };
    text.push_str(&wrap(
        &format!(
            "mode {}, {}{ended}: {waits} waits Runnable->Running",
            how.mode,
            seconds(how.duration_ns)
        ),
        0,
    ));
    text.push_str(&left_out(capture, by));
    if let Some(reason) = &how.mode_reason {
        text.push_str(&wrap(&reason.to_string(), 2));
    }
    text
}

/// Renders how many voluntary yields the figures are without, and where they are.
fn left_out(capture: &Capture, by: SplitBy) -> String {
    let yields = capture.yields();
    if yields == 0 {
        return String::new();
    }
    let all = capture.runnable_to_running.count;
    wrap(
        &format!(
            "left out: {yields} voluntary yields (runtime.Gosched), {} of all waits: {}",
            percent(yields, all),
            match by {
                SplitBy::Origin | SplitBy::Cause => "`yielded` below",
                SplitBy::CreationSite | SplitBy::WaitReason => "--by origin has them",
            }
        ),
        0,
    )
}
