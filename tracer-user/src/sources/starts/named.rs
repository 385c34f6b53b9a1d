//! Turns the kernel side's marks into observations, with the names of the functions that they are about.

use std::collections::{BTreeMap, BTreeSet};

use tracer_ebpf::start::{MAX_BINARIES, StartEvent};

use crate::stream::start::{Mark, StartMark, Usage};

/// Looks up names of functions.
pub trait Functions {
    /// The functions of a binary that begin at these link-time addresses, as far as they are known.
    fn beginning_at(&self, binary: u32, addresses: &BTreeSet<u64>) -> BTreeMap<u64, String>;
}

/// A link-time address in a binary.
type Address = (u32, u64);

/// What each process runs, where it is loaded, and the names of functions.
pub struct Named {
    usage_is_known: bool,
    /// Link-time address of the ELF entry, by binary.
    entries: BTreeMap<u32, u64>,
    running: BTreeMap<u32, Running>,
    names: BTreeMap<Address, Option<String>>,
    /// Processes that will send no more marks.
    ended: Vec<u32>,
}

/// A process, by its tgid in the kernel.
#[derive(Clone, Copy)]
struct Running {
    /// Its id in our PID namespace.
    pid: u32,
    binary: u32,
    /// Run-time minus link-time address, once the process has reached its ELF entry.
    bias: Option<u64>,
}

impl Named {
    /// Knows no binary yet. Without `usage_is_known` the kernel side counts neither time off the CPU nor page faults.
    pub fn new(usage_is_known: bool) -> Self {
        Self {
            usage_is_known,
            entries: BTreeMap::new(),
            running: BTreeMap::new(),
            names: BTreeMap::new(),
            ended: Vec::new(),
        }
    }

    /// Adds a binary whose ELF entry has this link-time address.
    pub fn add(&mut self, binary: u32, entry: u64) {
        self.entries.insert(binary, entry);
    }

    /// The id in our PID namespace of the process with this `tgid` in the kernel.
    pub fn pid_of(&self, tgid: u32) -> u32 {
        self.running.get(&tgid).map_or(tgid, |running| running.pid)
    }

    /// The tgid in the kernel of a process of our PID namespace.
    pub fn tgid_of(&self, pid: u32) -> u32 {
        let known = self.running.iter().find(|(_, running)| running.pid == pid);
        known.map_or(pid, |(tgid, _)| *tgid)
    }

    /// Forgets a process that will send no more marks.
    pub fn forget(&mut self, tgid: u32) {
        self.running.remove(&tgid);
    }

    /// The marks that events stand for, in the same order, with their times. `binary_of` maps the kernel side's slot of a
    /// binary to its number.
    pub fn marks(
        &mut self,
        events: &[StartEvent],
        binary_of: impl Fn(u32) -> u32,
        functions: &dyn Functions,
    ) -> Vec<(u64, StartMark)> {
        for tgid in self.ended.drain(..) {
            self.running.remove(&tgid);
        }
        // A process may execute several programs within one batch.
        let addresses: Vec<Option<Address>> = events
            .iter()
            .map(|event| self.record(event, &binary_of))
            .collect();
        self.look_up(addresses.iter().flatten(), functions);
        let named = events.iter().zip(addresses);
        named
            .filter_map(|(event, address)| Some((event.at_ns, self.mark(event, address, &binary_of)?)))
            .collect()
    }

    /// Records what a mark says about its process, and returns the address of the function that it is about.
    fn record(&mut self, event: &StartEvent, binary_of: impl Fn(u32) -> u32) -> Option<Address> {
        let running = self.running.entry(event.tgid).or_insert(Running {
            pid: own_pid(event),
            binary: 0,
            bias: None,
        });
        running.pid = own_pid(event);
        match Mark::from_u32(event.mark)? {
            Mark::Executed => {
                running.binary = binary(event, &binary_of);
                running.bias = None;
            }
            Mark::Entry => {
                let entry = self.entries.get(&running.binary)?;
                running.bias = Some(event.value.wrapping_sub(*entry));
            }
            mark if mark.is_last() => self.ended.push(event.tgid),
            Mark::InitBegin | Mark::GoStatement if event.value != 0 => {
                return Some((running.binary, event.value.wrapping_sub(running.bias?)));
            }
            _ => {}
        }
        None
    }

    /// Looks up the names that are not known yet.
    fn look_up<'a>(&mut self, addresses: impl Iterator<Item = &'a Address>, functions: &dyn Functions) {
        let mut unknown: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for (binary, address) in addresses {
            if !self.names.contains_key(&(*binary, *address)) {
                unknown.entry(*binary).or_default().insert(*address);
            }
        }
        for (binary, addresses) in unknown {
            let mut found = functions.beginning_at(binary, &addresses);
            for address in addresses {
                self.names.insert((binary, address), found.remove(&address));
            }
        }
    }

    fn mark(
        &self,
        event: &StartEvent,
        address: Option<Address>,
        binary_of: impl Fn(u32) -> u32,
    ) -> Option<StartMark> {
        let mark = Mark::from_u32(event.mark)?;
        let function = address.and_then(|address| self.names.get(&address).cloned().flatten());
        let name = match mark {
            Mark::InitBegin => function.as_deref().map(package_of).map(str::to_owned),
            _ => function,
        };
        let main_thread = event.tid == event.tgid;
        Some(StartMark {
            pid: own_pid(event),
            tid: event.tid,
            main_thread,
            mark,
            value: match mark {
                Mark::ProcResizeBegin | Mark::PBound => event.value,
                Mark::Executed => u64::from(binary(event, binary_of)),
                _ => 0,
            },
            name,
            usage: (main_thread && self.usage_is_known).then_some(Usage {
                asleep_ns: event.asleep_ns,
                waiting_ns: event.waiting_ns,
                minor_faults: event.minor_faults,
                major_faults: event.major_faults,
            }),
        })
    }
}

/// The binary of [`Mark::Executed`]. The values of [`tracer_ebpf::start::binary`] are kept.
fn binary(event: &StartEvent, binary_of: impl Fn(u32) -> u32) -> u32 {
    match u32::try_from(event.value) {
        Ok(slot) if slot < MAX_BINARIES => binary_of(slot),
        Ok(unknown) => unknown,
        Err(_) => tracer_ebpf::start::binary::UNKNOWN,
    }
}

/// The process in our PID namespace, or if it has no id there, the kernel's tgid.
pub fn own_pid(event: &StartEvent) -> u32 {
    if event.pid == 0 { event.tgid } else { event.pid }
}

/// The package of a function, as `runtime.funcpkgpath` finds it: up to the first dot after the last slash.
fn package_of(function: &str) -> &str {
    let from = function.rfind('/').map_or(0, |slash| slash + 1);
    let dot = function.get(from..).and_then(|rest| rest.find('.'));
    dot.and_then(|dot| function.get(..from + dot)).unwrap_or(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_ends_at_the_first_dot_after_the_last_slash() {
        assert_eq!(package_of("runtime.init.0"), "runtime");
        assert_eq!(package_of("example.com/a.b/c.init"), "example.com/a.b/c");
        assert_eq!(package_of("gopkg.in/yaml%2ev2.map.init.0"), "gopkg.in/yaml%2ev2");
        assert_eq!(package_of("odd"), "odd");
    }
}
