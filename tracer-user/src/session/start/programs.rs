//! The programs whose starts are traced: the one that was named, or all that a command brings.

use std::collections::{BTreeMap, BTreeSet};

use super::{program::Program, tree::Tree};
use crate::{sources::starts::Functions, stream::TargetInfo};

/// One, or many.
pub enum Programs {
    /// It was named.
    One(Box<Program>),
    /// Those that descend from a command.
    Tree(Tree),
}

impl Programs {
    /// Whether they are those of a command's tree.
    pub fn tree(&mut self) -> Option<&mut Tree> {
        match self {
            Self::One(_) => None,
            Self::Tree(tree) => Some(tree),
        }
    }

    /// What the capture is about: the program, or the command as far as it is known before it runs.
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
