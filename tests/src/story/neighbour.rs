//! The noisy neighbour: another process, which computes without a pause.

use anyhow::Result;

use super::held;
use crate::surroundings::{Group, Hog};

/// A process that computes, in a control group of its own; killed on drop.
#[derive(Debug)]
pub struct Neighbour {
    hog: Hog,
    // Removed once the process has been killed.
    _group: Group,
}

impl Neighbour {
    /// Starts it in this control group, on this CPU.
    pub fn start(group: Group, cpu: usize) -> Result<Self> {
        let hog = Hog::start(held(&group, cpu))?;
        Ok(Self { hog, _group: group })
    }

    /// Moves it to another CPU.
    pub fn move_to(&self, cpu: usize) -> Result<()> {
        self.hog.move_to(cpu)
    }
}
