//! The decisive experiment: attaches the real programs to gmpscope's own process, and measures them.

use std::collections::BTreeMap;

use super::check::{Check, PROBING};
use crate::{
    bpf::{
        Capacity, Kernel,
        calibrate::{self, Instructions},
        multi,
    },
    error::{Error, Result},
    plan::Mode,
    sources::programs::program_for,
};

/// Nanoseconds that a hit costs here, by mode: in a tight loop, and in a busy program.
pub type HitCost = BTreeMap<Mode, [u64; 2]>;

/// Checks whether one link can hold all sites of a process.
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

/// Number of instructions that the verifier processed, by program: its complexity for the kernel.
pub type Verified = BTreeMap<&'static str, u32>;

/// The results of the trial.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// One check of the programs, and one of the probes.
    pub checks: Vec<Check>,
    /// The programs that the kernel accepts.
    pub verified: Verified,
    /// The cost of a hit.
    pub hit_cost: HitCost,
}

/// Loads the programs, and attaches them to our own process.
pub fn probes() -> Trial {
    run().unwrap_or_else(|error| Trial {
        checks: vec![Check::missing("probes", error.message, PROBING)],
        ..Trial::default()
    })
}

fn run() -> Result<Trial> {
    // A task reads the kernel side's own log, if that is enabled.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::failed(format!("could not start the event loop: {cause}")))?;
    let _inside = runtime.enter();
    let mut kernel = Kernel::load(Capacity {
        stamps: 64,
        ..Capacity::ONE
    })?;
    let (programs, verified) = verify(&kernel);
    let mut checks = vec![programs];
    let hit_cost = match measure(&mut kernel) {
        Ok(costs) => {
            let range = |mode: &Mode, [low, high]: &[u64; 2]| format!("{mode} {low} to {high} ns");
            let ranges: Vec<String> = costs.iter().map(|(mode, cost)| range(mode, cost)).collect();
            let detail = format!("tried on gmpscope itself; a hit costs: {}", ranges.join(", "));
            checks.push(Check::ok("probes", detail));
            costs
        }
        Err(error) => {
            checks.push(Check::missing("probes", error.message, PROBING));
            HitCost::new()
        }
    };
    Ok(Trial {
        checks,
        verified,
        hit_cost,
    })
}

/// Has the kernel verify every program, including those that no mode uses here.
fn verify(kernel: &Kernel) -> (Check, Verified) {
    let name = "programs";
    let mut verified = Verified::new();
    let mut refused = Vec::new();
    for (program, outcome) in kernel.verified() {
        match outcome {
            Ok(count) => drop(verified.insert(program, count)),
            Err(why) => refused.push(why.to_string()),
        }
    }
    let counts: Vec<String> = verified.iter().map(|(name, n)| format!("{name} {n}")).collect();
    let detail = format!("instructions verified: {}", counts.join(", "));
    let check = match refused.as_slice() {
        [] => Check::ok(name, detail),
        _ => Check::degraded(name, detail, refused.join("; ")).advise(
            "please report this with the kernel's version: every program is to load on Linux 5.10 and newer",
        ),
    };
    (check, verified)
}

fn measure(kernel: &mut Kernel) -> Result<HitCost> {
    let modes = [Mode::Sampled, Mode::Exact].into_iter();
    modes
        .map(|mode| {
            let program = program_for(mode);
            let cost = calibrate::measure(
                kernel,
                program,
                calibrate::most_expensive(program),
                Instructions::ALL,
            )?;
            Ok((mode, cost.hit_ns))
        })
        .collect()
}
