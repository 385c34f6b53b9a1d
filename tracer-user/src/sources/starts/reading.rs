//! Reading what the kernel side has sent and counted.

use tracer_ebpf::start::{Call, CallEvent, Mark, StartEvent};

use super::{Functions, StartSource, TracedProcesses, calls, configure::SLOT, marks, named, probed_binary};
use crate::{
    bpf::{maps, ring},
    error::Result,
    stream::{
        Event, Kind, Observation,
        start::{StartCall, StartHeld},
    },
};

impl StartSource {
    /// Reads what was sent and counted since the last call.
    ///
    /// # Errors
    /// A table of the kernel's cannot be read.
    pub fn observe(&mut self, now_ns: u64, functions: &dyn Functions) -> Result<Vec<Observation>> {
        let mut marks = Vec::new();
        let mut seen = Vec::new();
        while let Some(item) = self.ring.next() {
            if let Some(event) = ring::read::<StartEvent>(&item) {
                marks.push(event);
            } else if let Some(event) = ring::read::<CallEvent>(&item) {
                seen.extend(self.opened.returned(&event));
            } else {
                log::warn!(
                    "an event of {} bytes from the kernel is not one of a start",
                    item.len()
                );
            }
        }
        self.close_links(&marks, now_ns);
        let marks = self
            .named
            .marks(&marks, |slot| self.slots.number_of(slot), functions);
        for observation in &mut seen {
            if let Kind::Event(Event::StartCall(call)) = &mut observation.kind {
                call.pid = self.named.pid_of(call.pid);
            }
        }
        seen.extend(marks.into_iter().map(|(at_ns, mark)| Observation {
            at_ns,
            kind: Kind::Event(Event::StartMark(mark)),
        }));
        // After the ring: a hold is recorded before the event that ends its start.
        if let Some(gate) = &self.gate {
            seen.extend(gate.holds().map(|hold| Observation {
                at_ns: hold.until_ns,
                kind: Kind::Event(Event::StartHeld(StartHeld {
                    pid: hold.pid,
                    held_ns: hold.held_ns,
                })),
            }));
        }
        seen.sort_by_key(|observation| observation.at_ns);
        seen.extend(marks::new_counts(
            &mut self.kernel,
            SLOT,
            &mut self.counted,
            now_ns,
        )?);
        Ok(seen)
    }

    /// Takes over what the gate has linked.
    pub(super) fn take_linked(&mut self) {
        if let Some(gate) = &self.gate {
            let (linked, late) = gate.linked();
            linked.into_iter().for_each(|linked| self.links.add(linked));
            self.links.late(&late);
        }
    }

    /// Removes the probes of processes whose start has ended.
    fn close_links(&mut self, marks: &[StartEvent], now_ns: u64) {
        // After reading the ring: the links that a mark ends were made before it was sent.
        self.take_linked();
        for mark in marks.iter().filter(|mark| probed_binary::is_last(mark)) {
            self.links.ended(named::own_pid(mark), mark.at_ns);
        }
        let exited = marks.iter().filter(|mark| mark.mark == Mark::Exited as u32);
        let exited: Vec<u32> = exited.map(named::own_pid).collect();
        for pid in self.links.sweep(now_ns).into_iter().chain(exited) {
            // For a tree, the kernel side itself notices who has ended.
            if self.traced == TracedProcesses::Next
                && let Err(e) = self.ignore_execs(pid)
            {
                log::warn!("{e}");
            }
        }
    }

    /// The system call that the main thread of a process is in, if any.
    ///
    /// # Errors
    /// The kernel's table cannot be opened.
    pub fn unfinished(&mut self, pid: u32, now_ns: u64) -> Result<Option<Observation>> {
        let tgid = self.named.tgid_of(pid);
        // A thread that is not in a call has no entry.
        let Ok(call) = maps::calls(&mut self.kernel.ebpf)?.get(&tgid, 0) else {
            return Ok(None);
        };
        let Call {
            at_ns, args, number, ..
        } = call.0;
        Ok(Some(Observation {
            at_ns: now_ns,
            kind: Kind::Event(Event::StartCall(StartCall {
                pid,
                tid: tgid,
                main_thread: true,
                name: calls::name(number),
                on: self.opened.descriptor(tgid, number, args[0]),
                duration_ns: now_ns.saturating_sub(at_ns),
                result: None,
            })),
        }))
    }
}
