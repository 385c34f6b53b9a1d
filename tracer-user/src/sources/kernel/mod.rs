//! What this kernel and our privileges allow: by experiment where one can be made without leaving a trace,
//! by the kernel's own word where not.

mod check;
mod environment;
mod experiments;
mod report;

pub use check::{Check, Status};
pub use report::{ModeVerdict, Report};

use crate::error::privilege::Privileges;

/// Looks at everything. Takes some milliseconds, touches no other process, leaves nothing behind.
pub fn examine() -> Report {
    let ours = Privileges::ours();
    let release = environment::kernel_release();
    let mut checks = vec![environment::kernel(&release)];
    checks.extend(environment::privileges(&ours));
    checks.extend(environment::settings(&ours, &release));
    checks.extend(experiments::all(&ours));
    Report::new(release, checks)
}
