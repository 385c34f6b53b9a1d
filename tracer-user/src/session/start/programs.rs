//! The programs whose starts are traced: the one that was named, or all that a command's tree executes.

use std::collections::{BTreeMap, BTreeSet};

use super::{program::Program, tree::Tree};
use crate::{sources::starts::Functions, stream::TargetInfo};

/// The programs whose starts are traced.
pub enum Programs {
    /// The program that was named.
    One(Box<Program>),
    /// The programs that a command and its descendants execute.
    Tree(Tree),
}

impl Programs {
    /// Returns the tree; `None` for a single program.
    pub fn tree(&mut self) -> Option<&mut Tree> {
        match self {
            Self::One(_) => None,
            Self::Tree(tree) => Some(tree),
        }
    }

    /// Describes the target of the capture: the program, or the command as far as it is known before it runs.
    pub fn subject(&self) -> TargetInfo {
        match self {
            Self::One(program) => program.info(),
            Self::Tree(tree) => tree.command(),
        }
    }
}

impl Functions for Programs {
    fn beginning_at(&self, binary: u32, addresses: &BTreeSet<u64>) -> BTreeMap<u64, String> {
        let program = match self {
            Self::One(program) => Some(&**program),
            Self::Tree(tree) => tree.program(binary),
        };
        program.map_or_else(BTreeMap::new, |program| program.functions(addresses))
    }
}
