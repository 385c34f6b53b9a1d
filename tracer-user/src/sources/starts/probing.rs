//! Probing binaries, and removing their probes.

use std::sync::Arc;

use super::{
    Binary, StartSource, TracedProcesses,
    configure::{SLOT, change_marks},
    links::{Linked, ProcessProbes},
    marks,
    slot_table::How,
};
use crate::{
    bpf::{
        ProgramKind, Scope,
        attach::{self, Point},
        kernel,
        linker::Linker,
        maps,
    },
    clock::now_ns,
    error::{Error, Result},
    process::file::FileId,
};

impl StartSource {
    /// Probes a binary, which has this number from here on. The probes are live when this returns; at the gate, each
    /// process gets them as it executes the binary.
    ///
    /// # Errors
    /// The kernel refuses, or there are too many binaries.
    pub fn probe(&mut self, number: u32, binary: Binary<'_>) -> Result<()> {
        let slot = self.slots.free_slot()?;
        self.write_entry(slot, binary.plan.entry)?;
        let points = self.points_of(binary, slot);
        let sites = points.len();
        let scope = match self.traced {
            TracedProcesses::Held(pid) => Scope::process(pid)?,
            _ => Scope::Binary,
        };
        let keys = attach::keys_by_ip(ProgramKind::Mark, &points, scope);
        let how = match self.traced {
            TracedProcesses::Held(_) | TracedProcesses::Any => How::Live(marks::attach(
                &mut self.kernel,
                &points,
                u32::from(slot),
                scope,
                binary.file,
            )?),
            TracedProcesses::HeldInTurn => {
                return Err(Error::failed(
                    "processes that are held in turn are probed one by one",
                ));
            }
            TracedProcesses::Tree | TracedProcesses::Next => How::Each(Arc::new(Linker::new(
                &mut self.kernel,
                ProgramKind::Mark,
                points,
                u32::from(slot),
                binary.file,
            )?)),
        };
        self.named.add(number, binary.plan.entry);
        self.slots.add(slot, number, how, sites, keys);
        kernel::trim_heap();
        Ok(())
    }

    /// Probes a process that is held and will execute the only binary, which has this number. The probes of the previous
    /// process are removed in the background.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn probe_held(&mut self, number: u32, binary: Binary<'_>, pid: u32) -> Result<()> {
        let slot = match self.slots.slot_of(number) {
            Some(slot) => u16::try_from(slot).unwrap_or_default(),
            None => self.slots.free_slot()?,
        };
        self.write_entry(slot, binary.plan.entry)?;
        let points = self.points_of(binary, slot);
        let scope = Scope::process(pid)?;
        let probes = marks::attach(&mut self.kernel, &points, u32::from(slot), scope, binary.file)?;
        if self.slots.slot_of(number).is_none() {
            let keys = attach::keys_by_ip(ProgramKind::Mark, &points, scope);
            self.named.add(number, binary.plan.entry);
            self.slots
                .add(slot, number, How::InTurn(probes.kind), points.len(), keys);
            kernel::trim_heap();
        }
        let metadata = binary.file.metadata();
        let metadata = metadata.map_err(|e| Error::failed(format!("the program cannot be examined: {e}")))?;
        self.links.clear_soon();
        self.links.add(Linked {
            job: 0,
            pid,
            slot: u32::from(slot),
            file: FileId::of(&metadata),
            since_ns: now_ns(),
            bound: ProcessProbes { probes, ticket: None },
        });
        Ok(())
    }

    /// The points to probe in a binary.
    fn points_of(&self, binary: Binary<'_>, slot: u16) -> Vec<Point> {
        let sites = match self.traced {
            TracedProcesses::Held(_) | TracedProcesses::HeldInTurn => binary.plan.sites.clone(),
            TracedProcesses::Tree | TracedProcesses::Next | TracedProcesses::Any => binary.plan.once(),
        };
        marks::points(binary.plan, &sites, SLOT, slot)
    }

    /// Removes the probes of a binary, also those of processes that are still starting, and waits until they are gone:
    /// its file may have become another program, which must not get any of them.
    ///
    /// # Errors
    /// The kernel's table cannot be opened.
    pub fn unprobe(&mut self, number: u32) -> Result<()> {
        if let Some(slot) = self.slots.slot_of(number) {
            self.take_linked();
            self.links.unprobe(slot);
        }
        self.unprobe_soon(number)
    }

    /// Removes the probes of a binary without waiting, when its processes have ended.
    ///
    /// # Errors
    /// The kernel's table cannot be opened.
    pub fn unprobe_soon(&mut self, number: u32) -> Result<()> {
        let Some(gone) = self.slots.remove(number) else {
            return Ok(());
        };
        let mut table = maps::sites_by_ip(&mut self.kernel.ebpf)?;
        for key in gone.keys() {
            // Later hits of the probes find no site.
            let _ = table.remove(&maps::Abi(key));
        }
        Ok(())
    }

    /// The linker that attaches to processes of a binary at the gate.
    pub fn linker_of(&self, number: u32) -> Option<Arc<Linker>> {
        self.slots.linker_of(self.slots.slot_of(number)?)
    }

    /// The kernel side's slot of a binary that is probed.
    pub fn slot_of(&self, number: u32) -> Option<u32> {
        self.slots.slot_of(number)
    }

    /// Writes a binary's ELF entry for the kernel side, which needs it where sites are known by address.
    fn write_entry(&mut self, slot: u16, entry: u64) -> Result<()> {
        if self.traced == TracedProcesses::Tree {
            return maps::entries(&mut self.kernel.ebpf)?
                .set(u32::from(slot), entry, 0)
                .map_err(maps::context("write", "ENTRIES"));
        }
        change_marks(&mut self.kernel, |config| config.entry = entry)
    }
}
