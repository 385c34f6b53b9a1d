//! Made-up memory of a program with very many goroutines.

use std::sync::atomic::{AtomicU64, Ordering};

use super::snapshot::SnapshotReader;
use crate::{
    binary::{
        Arch, Globals, GoVersion,
        layout::{self, Layout},
    },
    process::memory::{Memory, ReadError},
    stream::transition::status,
};

const ALLGS: u64 = 0x1000;
const ALLP: u64 = 0x2000;
const ALLM: u64 = 0x3000;
const G: u64 = 0xc000_0000_0000;
/// Distance of two gs.
const STRIDE: u64 = 512;
/// The array of `allgs` is here, and elsewhere each time that it is moved.
const ARRAY: u64 = 0x10_0000_0000;
const MOVED_BY: u64 = 0x1000_0000;

/// Memory with this many gs, of which every tenth is dead; the others wait.
pub(super) struct Crowd {
    layout: Layout,
    gs: u64,
    /// `allgs` is moved after it was looked up so many times; 0: never.
    moves_every: u64,
    lookups: AtomicU64,
}

impl Crowd {
    pub(super) fn reader(gs: u64, moves_every: u64) -> SnapshotReader<Self> {
        let version = GoVersion::parse("go1.27.3").unwrap();
        let (layout, _) = layout::find(&version, Arch::Amd64, &[]).unwrap();
        let globals = Globals {
            allgs: Some(ALLGS),
            allp: Some(ALLP),
            allm: Some(ALLM),
            ..Globals::default()
        };
        let crowd = Self {
            layout: layout.clone(),
            gs,
            moves_every,
            lookups: AtomicU64::new(0),
        };
        SnapshotReader::new(crowd, std::process::id(), &globals, 0, layout)
    }

    fn array(&self) -> u64 {
        let lookups = self.lookups.load(Ordering::Relaxed);
        ARRAY + MOVED_BY * lookups.checked_div(self.moves_every).unwrap_or(0)
    }

    fn put(into: &mut [u8], at: u32, value: u64) {
        let at = at as usize;
        into[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
}

impl Memory for Crowd {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        into.fill(0);
        let array = self.array();
        if address == ALLGS {
            Self::put(into, 0, array);
            Self::put(into, 8, self.gs);
            self.lookups.fetch_add(1, Ordering::Relaxed);
        } else if (array..array + self.gs * 8).contains(&address) {
            let first = (address - array) / 8;
            for (n, word) in (first..).zip(into.chunks_exact_mut(8)) {
                Self::put(word, 0, G + n * STRIDE);
            }
        } else if (ARRAY..G).contains(&address) {
            return Err(ReadError::Unmapped {
                pid: 1,
                address,
                length: into.len(),
            });
        } else if address >= G {
            let n = (address - G) / STRIDE;
            let g = &self.layout.g;
            let state = if n.is_multiple_of(10) {
                status::DEAD
            } else {
                status::WAITING
            };
            Self::put(into, g.goid, n + 1);
            into[g.atomicstatus as usize] = state;
        }
        Ok(())
    }
}
