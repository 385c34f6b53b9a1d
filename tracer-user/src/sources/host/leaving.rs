//! Taking probes away without having anybody wait: the kernel needs some 35 ms for a link, more for perf events.

use std::thread::{self, JoinHandle};

use tracer_ebpf::{Histogram, SiteKey, Stamp, creation_site_of};

use crate::{
    bpf::{
        Kernel,
        attach::Probes,
        maps::{self, Abi},
    },
    error::Result,
};

/// Threads that take probes away at once: the kernel does most of its waiting for them together.
const MOST_THREADS: usize = 16;

/// What is left of a target: its probes, and its entries in tables that are not by slot.
pub struct Remains {
    /// Slot that it had.
    pub index: u32,
    /// Its probes.
    pub probes: Option<Probes>,
    /// By which its sites are known, where there are no cookies.
    pub keys: Vec<SiteKey>,
    /// Whether it has stamped goroutines.
    pub stamped: bool,
}

/// Targets whose probes are being taken away.
#[derive(Default)]
pub struct Leaving(Vec<(u32, JoinHandle<()>)>);

impl Leaving {
    /// Begins to take one away.
    ///
    /// # Errors
    /// A table cannot be opened for it: the probes are taken away before this returns, the slot is lost.
    pub fn begin(&mut self, kernel: &Kernel, remains: Remains) -> Result<()> {
        let tables = Tables::of(kernel)?;
        let index = remains.index;
        let thread = thread::Builder::new()
            .name("detach".to_owned())
            .spawn(move || tables.clear(remains));
        match thread {
            Ok(thread) => self.0.push((index, thread)),
            Err(e) => log::warn!("no thread to detach in ({e}): slot {index} is given up"),
        }
        Ok(())
    }

    /// Slots whose last holder is gone altogether.
    pub fn gone(&mut self) -> Vec<u32> {
        let mut gone = Vec::new();
        let mut index = 0;
        while let Some((slot, thread)) = self.0.get(index) {
            if !thread.is_finished() {
                index += 1;
                continue;
            }
            gone.push(*slot);
            self.join(index);
        }
        gone
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for all.
    pub fn wait(&mut self) -> Vec<u32> {
        let slots = self.0.iter().map(|(slot, _)| *slot).collect();
        while !self.0.is_empty() {
            self.join(0);
        }
        slots
    }

    fn join(&mut self, index: usize) {
        if self.0.swap_remove(index).1.join().is_err() {
            log::error!("a thread that detached has panicked; please report this");
        }
    }
}

/// Takes many away at once, and waits for it.
pub fn all_at_once(mut probes: Vec<Probes>) {
    let each = probes.len().div_ceil(MOST_THREADS).max(1);
    thread::scope(|scope| {
        while !probes.is_empty() {
            let some = probes.split_off(probes.len().saturating_sub(each));
            // Where no thread can be made, they go here, one after the other: dropped with the closure.
            let spawned = thread::Builder::new().spawn_scoped(scope, move || drop(some));
            if let Err(e) = spawned {
                log::warn!("no thread to detach in: {e}");
            }
        }
    });
}

/// The tables that are not by slot.
struct Tables {
    sampled: aya::maps::HashMap<aya::maps::MapData, u64, Abi<Histogram>>,
    stamps: aya::maps::HashMap<aya::maps::MapData, u64, Abi<Stamp>>,
    sites_by_ip: aya::maps::HashMap<aya::maps::MapData, Abi<SiteKey>, Abi<tracer_ebpf::Site>>,
}

impl Tables {
    fn of(kernel: &Kernel) -> Result<Self> {
        Ok(Self {
            sampled: maps::hash(kernel.map_fd("SAMPLED_HISTOGRAMS")?, "SAMPLED_HISTOGRAMS")?,
            stamps: maps::hash(kernel.map_fd("STAMPS")?, "STAMPS")?,
            sites_by_ip: maps::hash(kernel.map_fd("SITES_BY_IP")?, "SITES_BY_IP")?,
        })
    }

    /// First the probes: a program that still runs would make entries anew.
    fn clear(mut self, remains: Remains) {
        drop(remains.probes);
        for key in remains.keys {
            let _ = self.sites_by_ip.remove(&Abi(key));
        }
        remove_of(&mut self.sampled, remains.index);
        if remains.stamped {
            remove_of(&mut self.stamps, remains.index);
        }
    }
}

/// Removes all entries of a slot. Collected first: a walk goes astray when the entry that it is at is removed.
fn remove_of<V: aya::Pod>(table: &mut aya::maps::HashMap<aya::maps::MapData, u64, V>, slot: u32) {
    let keys: Vec<u64> = table
        .keys()
        .map_while(|key| key.ok())
        .filter(|key| creation_site_of(*key).0 == slot)
        .collect();
    for key in keys {
        let _ = table.remove(&key);
    }
}
