//! Programs that do not get the CPU time that they want: of a control group with a quota, or beside one that wants it too.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::surroundings::{Group, Hog, Placement, Quota, cpus};
use crate::workload::Workload;

/// What a program is started in.
#[derive(Debug)]
pub enum Pressed {
    /// Nothing keeps it from its CPUs.
    Free,
    /// A control group with a quota.
    Throttled(Group),
    /// A single CPU, of which another program takes what it can get.
    Crowded {
        /// The other program.
        hog: Hog,
        /// The CPU.
        cpu: usize,
    },
}

impl Pressed {
    /// A control group with this quota.
    pub fn throttled(quota: Quota) -> Result<Self> {
        Group::with_quota(quota).map(Self::Throttled)
    }

    /// A CPU that we may use, on which another program computes.
    pub fn crowded() -> Result<Self> {
        let (cpu, _) = cpus::two()?;
        let hog = Hog::start(Placement {
            cpu: Some(cpu),
            ..Placement::default()
        })?;
        Ok(Self::Crowded { hog, cpu })
    }

    /// Starts a workload in it, with these arguments, and waits until it is parked.
    pub fn start(&self, binary: &Path, args: &[&str]) -> Result<Workload> {
        let mut command = Command::new(binary);
        command.args(args).arg("-control").env_remove("GODEBUG");
        let (group, cpu) = match self {
            Self::Free => (None, None),
            Self::Throttled(group) => (Some(group), None),
            Self::Crowded { cpu, .. } => (None, Some(*cpu)),
        };
        let placement = Placement {
            group,
            cpu,
            ..Placement::default()
        };
        placement.apply(&mut command)?;
        Workload::start_by(command)
    }
}
