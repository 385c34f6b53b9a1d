//! The experiment that decides: the real programs, attached to gmpscope's own process, measured.

use std::collections::BTreeMap;

use super::check::{Check, PROBING};
use crate::{
    error::{Error, Result},
    plan::Mode,
    sources::probes::{Capacity, Kernel, ProgramKind, calibrate, multi},
};

/// Nanoseconds that a hit costs here, by mode: in a tight loop, and in a busy program.
pub type HitCost = BTreeMap<Mode, [u64; 2]>;

/// Whether one link can hold all sites of a process.
pub fn uprobe_multi() -> Check {
    let name = "uprobe_multi";
    let slow = "probes are perf events, which the kernel removes one by one, some 80 ms each";
    match multi::support() {
        multi::Support::Works => Check::ok(name, "works, and filters by process"),
        multi::Support::Missing(why) => {
            Check::degraded(name, why, slow).advise("Linux 6.6 and newer have it")
        }
        multi::Support::PidFilterBroken => Check::degraded(
            name,
            "filters by thread in place of process, and is not used",
            slow,
        )
        .advise("fixed in Linux 6.6.35, 6.9.5 and 6.10"),
    }
}

/// Loads the programs and probes ourselves with them.
pub fn probes() -> (Check, HitCost) {
    let name = "probes";
    match measure() {
        Ok(costs) => {
            let told = |mode: &Mode, [low, high]: &[u64; 2]| format!("{mode} {low} to {high} ns");
            let told: Vec<String> = costs.iter().map(|(mode, cost)| told(mode, cost)).collect();
            (
                Check::ok(
                    name,
                    format!("tried on gmpscope itself; a hit costs: {}", told.join(", ")),
                ),
                costs,
            )
        }
        Err(error) => (Check::missing(name, error.message, PROBING), HitCost::new()),
    }
}

fn measure() -> Result<HitCost> {
    // The kernel side's own log, where it is asked for, is read by a task.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::failed(format!("could not start the event loop: {cause}")))?;
    let _inside = runtime.enter();
    let mut kernel = Kernel::load(Capacity {
        targets: 1,
        stamps: 64,
    })?;
    [
        (Mode::Sampled, ProgramKind::Sampled),
        (Mode::Exact, ProgramKind::Exact),
    ]
    .into_iter()
    .zip(0..)
    .map(|((mode, program), cookie)| Ok((mode, calibrate::measure(&mut kernel, program, cookie)?.hit_ns)))
    .collect()
}
