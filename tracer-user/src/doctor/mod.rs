//! What this kernel and our privileges allow: by experiment where one leaves no trace, and otherwise by what the
//! kernel reports.

mod check;
mod environment;
mod experiments;
mod report;
mod trial;

pub use check::{Check, Status};
pub use report::{ModeVerdict, Report};
pub use trial::{HitCost, Verified};

use self::trial::Trial;
use crate::{
    kernel::{privilege::Privileges, release::release},
    plan::Mode,
};

/// Checks everything. Takes some 100 ms, touches no other process, leaves nothing behind.
pub fn examine() -> Report {
    let ours = Privileges::ours();
    let release = release();
    let mut checks = vec![environment::kernel(&release)];
    checks.extend(environment::privileges(&ours));
    checks.extend(environment::settings(&ours, &release));
    checks.extend(experiments::all(&ours));
    let mut trial = Trial::default();
    // The trial would only repeat what is missing.
    if !checks.iter().any(|check| check.prevents.contains(&Mode::Exact)) {
        checks.push(trial::uprobe_multi());
        trial = trial::probes();
        checks.append(&mut trial.checks);
    }
    Report::new(release, checks, trial.hit_cost, trial.verified)
}
