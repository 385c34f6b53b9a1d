//! The runtime's list of modules: the program, and every plugin that it has loaded.
//!
//! A plugin is in the list as soon as the dynamic loader has mapped it, before any of its Go code runs
//! (`addmoduledata`, which an init function of the plugin calls; runtime/asm_amd64.s, cmd/link/internal/ld/ld.go), and is
//! never removed from it.

use super::memory::{Memory, ReadError};
use crate::binary::layout::Moduledata;

/// Most modules that are read: the list of a hostile process may have no end.
const MOST: usize = 64;

/// Where the list is in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleList {
    first: u64,
    next: u32,
    text: u32,
    etext: u32,
}

/// A module that the program has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedModule {
    /// Address of its moduledata.
    pub address: u64,
    /// Begin and end addresses of its Go code.
    pub text: (u64, u64),
}

impl ModuleList {
    /// The list that begins with the program's own moduledata at this address of the process.
    pub fn new(first: u64, layout: &Moduledata) -> Self {
        Self {
            first,
            next: layout.next,
            text: layout.text,
            etext: layout.etext,
        }
    }

    /// Reads the modules behind the one whose moduledata is at `last`; `None` is the program. Where there is none, which
    /// is nearly always so, that is one word.
    ///
    /// # Errors
    /// The process has ended, or its list leads to where nothing is mapped.
    pub fn after(&self, memory: &impl Memory, last: Option<u64>) -> Result<Vec<LoadedModule>, ReadError> {
        let mut found: Vec<LoadedModule> = Vec::new();
        let mut at = last.unwrap_or(self.first);
        while found.len() < MOST {
            let next = memory.read_u64(at.wrapping_add(u64::from(self.next)))?;
            let known = |module: &LoadedModule| module.address == next;
            if next == 0 || next == self.first || found.iter().any(known) {
                break;
            }
            let word = |offset: u32| memory.read_u64(next.wrapping_add(u64::from(offset)));
            found.push(LoadedModule {
                address: next,
                text: (word(self.text)?, word(self.etext)?),
            });
            at = next;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const FIRST: u64 = 0x60_0000;
    const LIST: ModuleList = ModuleList {
        first: FIRST,
        next: 64,
        text: 8,
        etext: 16,
    };

    /// Memory that consists of single words.
    struct Words(BTreeMap<u64, u64>);

    impl Words {
        /// A list of these moduledatas, each with a text of 256 bytes at 16 times its address; `last` is the last one's
        /// `next`.
        fn list(modules: &[u64], last: u64) -> Self {
            let mut words = BTreeMap::new();
            let nexts = modules.iter().skip(1).copied().chain([last]);
            for (module, next) in modules.iter().zip(nexts) {
                words.insert(module + 8, module * 16);
                words.insert(module + 16, module * 16 + 256);
                words.insert(module + 64, next);
            }
            Self(words)
        }
    }

    impl Memory for Words {
        fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
            let length = into.len();
            let word = self.0.get(&address).filter(|_| length == 8);
            let word = word.ok_or(ReadError::Unmapped {
                pid: 1,
                address,
                length,
            })?;
            into.copy_from_slice(&word.to_ne_bytes());
            Ok(())
        }
    }

    fn module(address: u64) -> LoadedModule {
        LoadedModule {
            address,
            text: (address * 16, address * 16 + 256),
        }
    }

    #[test]
    fn a_program_without_plugins_is_alone() {
        assert_eq!(LIST.after(&Words::list(&[FIRST], 0), None), Ok(vec![]));
    }

    #[test]
    fn plugins_come_in_the_order_in_which_they_were_loaded() {
        let memory = Words::list(&[FIRST, 0x100, 0x200], 0);
        assert_eq!(LIST.after(&memory, None), Ok(vec![module(0x100), module(0x200)]));
        assert_eq!(LIST.after(&memory, Some(0x100)), Ok(vec![module(0x200)]));
        assert_eq!(LIST.after(&memory, Some(0x200)), Ok(vec![]));
    }

    #[test]
    fn a_list_in_a_circle_ends() {
        for back_to in [FIRST, 0x100, 0x200] {
            let memory = Words::list(&[FIRST, 0x100, 0x200], back_to);
            assert_eq!(LIST.after(&memory, None), Ok(vec![module(0x100), module(0x200)]));
        }
    }

    #[test]
    fn a_list_without_an_end_is_cut() {
        let modules: Vec<u64> = (0..1000).map(|n| FIRST + n * 0x1000).collect();
        let memory = Words::list(&modules, 0);
        assert_eq!(LIST.after(&memory, None).unwrap().len(), MOST);
    }

    #[test]
    fn a_list_that_leads_nowhere_is_an_error() {
        let memory = Words::list(&[FIRST], 0xdead_0000);
        assert!(matches!(
            LIST.after(&memory, None),
            Err(ReadError::Unmapped { .. })
        ));
    }
}
