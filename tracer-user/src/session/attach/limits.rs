//! The limits of the target, as they were read last while it was there.

use super::prepare::Prepared;
use crate::process::{Fate, limits::Limits};

/// The limits of the target, as they were read last.
#[derive(Debug, Default)]
pub struct LimitsRead(Limits);

impl LimitsRead {
    /// Reads them, unless the target has ended or executes another program: then the last ones stay.
    pub fn read(&mut self, target: &Prepared) {
        let limits = Limits::of(target.pid());
        if matches!(target.fate(), Fate::Unchanged) {
            self.0 = limits;
        }
    }

    /// Returns the last ones.
    pub fn last(&self) -> Limits {
        self.0.clone()
    }
}
