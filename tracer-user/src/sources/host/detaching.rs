//! Removes probes on other threads, so that nobody waits: the kernel needs some 35 ms for a link, more for perf events.

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

/// What is left of a target that is not traced any more: its probes, and its entries in shared tables.
pub struct DetachedTarget {
    /// The slot that it had.
    pub index: u32,
    /// Its probes.
    pub probes: Option<Probes>,
    /// Keys of its sites, where there are no cookies.
    pub keys: Vec<SiteKey>,
    /// Whether it may have entries in the table of stamps.
    pub stamped: bool,
}

/// Targets that are being detached, by slot.
#[derive(Default)]
pub struct Detaching(Vec<(u32, JoinHandle<()>)>);

impl Detaching {
    /// Begins to detach a target.
    ///
    /// # Errors
    /// A table cannot be opened: the probes are removed before this returns, and the slot is lost.
    pub fn begin(&mut self, kernel: &Kernel, remains: DetachedTarget) -> Result<()> {
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

    /// Takes the slots whose last holder is completely removed.
    pub fn take_free_slots(&mut self) -> Vec<u32> {
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

    /// Whether no target is being detached.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until all targets are detached, and returns their slots.
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

/// The tables that all slots share.
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

    /// Drops the probes, and then removes the entries: a program that still runs could make new ones.
    fn clear(mut self, remains: DetachedTarget) {
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

/// Removes all entries of a slot. Keys are collected first: removing the current entry would restart the walk.
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
