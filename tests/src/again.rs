//! Measuring once more, where nothing but times differ: on a machine whose CPUs are all busy, a thread may lose its CPU
//! between a probe and the other side's clock. That does not recur each time, and an error in the figures does. A test
//! that compares counts, or asserts that something is absent, never does so.

use std::io::Write;

use anyhow::Result;

/// What a line begins with that says so. `cargo xtask test` looks for it, and its summary lists these tests.
pub const MARK: &str = "measured once more: ";

/// Says that a test measures once more, and why: past the test harness, which keeps back what a test prints that passes.
pub fn announce(why: &str) {
    let line = why.replace('\n', " ");
    // Without a stderr there is nobody to be told.
    let _ = writeln!(std::io::stderr(), "{MARK}{line}");
}

/// Measures, and if that fails once more.
///
/// # Errors
/// That of the second time.
pub fn once_more(mut measure: impl FnMut() -> Result<()>) -> Result<()> {
    match measure() {
        Ok(()) => Ok(()),
        Err(e) => {
            announce(&format!("{e:#}"));
            measure()
        }
    }
}
