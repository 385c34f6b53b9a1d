//! Checks that nothing of ours stays in the kernel or in the target, however gmpscope ends.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::kernel::{bpf_objects_of, patched_text, wait_until_gone};
use crate::run::Attach;
use crate::workload::Workload;
use tracer_user::stream::EndedBy;

/// How long gmpscope may take to end after a signal: the kernel removes perf-event links one after the other.
const GONE: Duration = Duration::from_secs(20);

/// Attaches to a parked workload, ends gmpscope by `signal` under load, and checks what is left.
///
/// # Errors
/// There was no probe, something is left, the capture was not printed, or the workload has stopped working.
pub fn nothing(workload: &mut Workload, attach: &Attach, signal: i32) -> Result<()> {
    let pid = workload.pid();
    ensure!(
        patched_text(pid)?.is_empty(),
        "the text differs from the file before"
    );
    let tracer = attach.start()?;
    let ours = bpf_objects_of(tracer.pid())?;
    ensure!(!ours.is_empty(), "there is no program, map or link in the kernel");
    workload.go()?;
    std::thread::sleep(Duration::from_millis(100));
    ensure!(!patched_text(pid)?.is_empty(), "there is no probe in the text");
    tracer.signal(signal);
    if signal == libc::SIGKILL {
        drop(tracer);
    } else {
        let outcome = tracer.finish()?;
        ensure!(
            outcome.code() == 0,
            "status {}: {}",
            outcome.code(),
            outcome.stderr
        );
        let ended_by = outcome.capture.map(|capture| capture.capture.ended_by);
        ensure!(
            ended_by == Some(EndedBy::Signal),
            "the capture says that it was ended by {ended_by:?}"
        );
    }
    wait_until_gone(&ours, GONE)?;
    ensure!(
        patched_text(pid)?.is_empty(),
        "there are breakpoints after the end"
    );
    // The program runs on unaffected.
    let earlier = workload.count()?;
    std::thread::sleep(Duration::from_millis(100));
    let later = workload.count()?;
    ensure!(
        later.iterations > earlier.iterations,
        "the program does nothing any more"
    );
    workload.park()?;
    Ok(())
}
