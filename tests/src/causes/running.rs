//! The workload `cause`, running with what surrounds it, and captures of it.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::pathology::Way;
use super::reading::Reading;
use crate::event::Event;
use crate::run::Attach;
use crate::surroundings::placement::become_foremost;
use crate::surroundings::{Cpus, Group, Hog, Placement};
use crate::toolchain;
use crate::variant::Variant;
use crate::workload::Workload;

/// For how long it runs before it is captured: the first rounds differ from the others.
const SETTLED: Duration = Duration::from_millis(300);
/// After how long the states that are read when a capture begins are known.
const KNOWN: Duration = Duration::from_millis(100);

/// The running workload. What surrounds it ends with it.
#[derive(Debug)]
pub struct Running {
    // Dropped in this order: a control group can be removed once the processes in it are gone.
    workload: Workload,
    group: Option<Group>,
    _hogs: Vec<Hog>,
}

/// A capture of a known number of iterations, with what both sides say of them.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The workload's event before.
    pub before: Event,
    /// Its event after.
    pub after: Event,
    /// The capture's causes.
    pub reading: Reading,
}

impl Running {
    /// Starts it; it is parked.
    pub fn start(way: &Way) -> Result<Self> {
        let binary = Variant::Stripped.build(&toolchain::newest()?, "cause")?;
        become_foremost()?;
        let last = Cpus::Last.single()?;
        let mut command = Command::new(binary);
        command
            .args([
                "-control",
                "-cpu",
                &last.unwrap_or(0).to_string(),
                way.mode.name(),
            ])
            .args(way.asks_for_twin.then_some("twin"))
            .env("GOMAXPROCS", way.gomaxprocs.to_string())
            .env_remove("GODEBUG")
            .envs(way.godebug.map(|value| ("GODEBUG", value)));
        let placement = Placement {
            cpu: way.cpus.single()?,
            batch: way.batch,
            ..Placement::default()
        };
        placement.apply(&mut command)?;
        let group = way.quota.map(Group::with_quota).transpose()?;
        let workload = Workload::start_by(command)?;
        if let Some(group) = &group {
            group.add(workload.pid())?;
        }
        let hogs = way.hogs.iter().map(|niceness| {
            Hog::start(Placement {
                cpu: last,
                niceness: Some(*niceness),
                ..Placement::default()
            })
        });
        Ok(Self {
            workload,
            group,
            _hogs: hogs.collect::<Result<_>>()?,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.workload.pid()
    }

    /// For how long its control group was throttled so far.
    ///
    /// # Errors
    /// It has no quota, or that cannot be read.
    pub fn throttled_ns(&self) -> Result<u64> {
        self.group.as_ref().context("it has no quota")?.throttled_ns()
    }

    /// Runs a workload and captures it for a while in mode `full`.
    ///
    /// # Errors
    /// It could not be run, or the capture is not complete.
    pub fn capture(way: &Way, window: Duration) -> Result<Reading> {
        let mut running = Self::start(way)?;
        running.workload.go()?;
        sleep(SETTLED);
        let outcome = Attach::to(running.pid()).mode("full").duration(window).run()?;
        let reading = Reading::of(&outcome).with_context(|| format!("{way:?}"))?;
        ensure!(running.workload.alive(), "the workload has ended: {way:?}");
        Ok(reading)
    }

    /// Has it do this many iterations and captures all of them in mode `full`: it is parked before and afterwards.
    ///
    /// # Errors
    /// It did not do them, or the capture is not complete.
    pub fn capture_iterations(&mut self, iterations: u64) -> Result<Whole> {
        let tracer = Attach::to(self.pid()).mode("full").start()?;
        sleep(KNOWN);
        let after = self.workload.go_for(iterations)?;
        let outcome = tracer.interrupt()?;
        Ok(Whole {
            before: self.workload.first.clone(),
            after,
            reading: Reading::of(&outcome)?,
        })
    }
}
