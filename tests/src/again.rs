//! Measuring once more, where nothing but times differ: on a machine whose CPUs are all busy, a thread may lose its CPU
//! between a probe and the other side's clock. That does not recur each time, and an error in the figures does. A test
//! whose verdict does not depend on how long something took never does so.

use std::io::Write;

use anyhow::{Result, bail};

/// The begin of the line that a test writes when it measures once more. `cargo xtask test` looks for it, and its summary
/// lists these tests.
pub const MARK: &str = "measured once more: ";

/// Writes that a test measures once more, and why. The harness does not capture what is written to stderr itself.
pub fn announce(why: &str) {
    let line = why.replace('\n', " ");
    // Without a stderr there is nobody who could read it.
    let _ = writeln!(std::io::stderr(), "{MARK}{line}");
}

/// How a measurement ended. What is wrong whatever the times were is an error instead.
#[derive(Debug)]
pub enum Verdict {
    /// Everything is as it must be.
    Holds,
    /// Something took longer than it does on a machine that has nothing else to do.
    TooLong(String),
}

impl Verdict {
    /// [`Self::Holds`], or what took too long.
    pub fn unless(too_long: bool, why: impl FnOnce() -> String) -> Self {
        match too_long {
            true => Self::TooLong(why()),
            false => Self::Holds,
        }
    }
}

/// Measures, and if nothing but times was wrong once more.
///
/// # Errors
/// What is wrong, at once; the times of the second measurement.
pub fn once_more(mut measure: impl FnMut() -> Result<Verdict>) -> Result<()> {
    if let Verdict::TooLong(why) = measure()? {
        announce(&why);
        if let Verdict::TooLong(why) = measure()? {
            bail!("also when it was measured once more: {why}");
        }
    }
    Ok(())
}
