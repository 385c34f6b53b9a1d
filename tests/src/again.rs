//! Measuring once more, where nothing but times differ: on a machine whose CPUs are all busy, a thread may lose its CPU
//! between a probe and the other side's clock. That does not recur each time, and an error in the figures does. A test
//! whose verdict does not depend on how long something took never does so.

use std::io::Write;

use anyhow::Result;

/// The begin of the line that a test writes when it measures once more. `cargo xtask test` looks for it, and its summary
/// lists these tests.
pub const MARK: &str = "measured once more: ";

/// Writes that a test measures once more, and why. The harness does not capture what is written to stderr itself.
pub fn announce(why: &str) {
    let line = why.replace('\n', " ");
    // Without a stderr there is nobody who could read it.
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
