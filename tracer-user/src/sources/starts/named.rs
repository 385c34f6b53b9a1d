//! Marks as the kernel side sends them, with the names of the functions that they are about.

use std::collections::{BTreeMap, BTreeSet};

use tracer_ebpf::start::StartEvent;

use crate::stream::start::{Mark, StartMark, Usage};

/// Names of the program's functions.
pub trait Functions {
    /// Those that begin at these link-time addresses, as far as they are known.
    fn beginning_at(&self, addresses: &BTreeSet<u64>) -> BTreeMap<u64, String>;
}

/// Where processes are loaded, and what their functions are called.
pub struct Named {
    entry: u64,
    usage_is_known: bool,
    /// Run-time minus link-time address of each process that has come to its ELF entry.
    biases: BTreeMap<u32, u64>,
    names: BTreeMap<u64, Option<String>>,
    /// Ids in our PID namespace of processes, by those that the kernel has.
    pids: BTreeMap<u32, u32>,
}

impl Named {
    /// Of a program whose ELF entry has this link-time address. Without `usage_is_known` the kernel side counts
    /// neither time off the CPU nor page faults.
    pub fn new(entry: u64, usage_is_known: bool) -> Self {
        Self {
            entry,
            usage_is_known,
            biases: BTreeMap::new(),
            names: BTreeMap::new(),
            pids: BTreeMap::new(),
        }
    }

    /// The id in our PID namespace of a process that the kernel has under `tgid`.
    pub fn pid_of(&self, tgid: u32) -> u32 {
        self.pids.get(&tgid).copied().unwrap_or(tgid)
    }

    /// The id that the kernel has for a process of our PID namespace.
    pub fn tgid_of(&self, pid: u32) -> u32 {
        let known = self.pids.iter().find(|(_, own)| **own == pid);
        known.map_or(pid, |(tgid, _)| *tgid)
    }

    /// Nothing more comes of this process.
    pub fn forget(&mut self, tgid: u32) {
        self.pids.remove(&tgid);
        self.biases.remove(&tgid);
    }

    /// Notes where processes are loaded, and asks for the names that are not known yet.
    pub fn learn(&mut self, marks: &[StartEvent], functions: &dyn Functions) {
        let mut unknown = BTreeSet::new();
        for event in marks {
            self.pids.insert(event.tgid, own_pid(event));
            if event.mark == Mark::Entry as u32 {
                self.biases
                    .insert(event.tgid, event.value.wrapping_sub(self.entry));
            }
            if let Some(address) = self.named_address(event)
                && !self.names.contains_key(&address)
            {
                unknown.insert(address);
            }
        }
        if unknown.is_empty() {
            return;
        }
        let mut found = functions.beginning_at(&unknown);
        for address in unknown {
            self.names.insert(address, found.remove(&address));
        }
    }

    /// Link-time address of the function that a mark is about.
    fn named_address(&self, event: &StartEvent) -> Option<u64> {
        let named = [Mark::InitBegin, Mark::GoStatement].map(|mark| mark as u32);
        if !named.contains(&event.mark) || event.value == 0 {
            return None;
        }
        Some(event.value.wrapping_sub(*self.biases.get(&event.tgid)?))
    }

    /// The mark that an event stands for.
    pub fn mark(&self, event: &StartEvent) -> Option<StartMark> {
        let mark = Mark::from_u32(event.mark)?;
        let function = self
            .named_address(event)
            .and_then(|address| self.names.get(&address).cloned().flatten());
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

/// The process as we know it; one that is not in our PID namespace keeps the number that the kernel has.
fn own_pid(event: &StartEvent) -> u32 {
    if event.pid == 0 { event.tgid } else { event.pid }
}

/// The package of a function, as `runtime.funcpkgpath` finds it: up to the first dot behind the last slash.
fn package_of(function: &str) -> &str {
    let from = function.rfind('/').map_or(0, |slash| slash + 1);
    let dot = function.get(from..).and_then(|rest| rest.find('.'));
    dot.and_then(|dot| function.get(..from + dot)).unwrap_or(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_ends_at_the_first_dot_behind_the_last_slash() {
        assert_eq!(package_of("runtime.init.0"), "runtime");
        assert_eq!(package_of("example.com/a.b/c.init"), "example.com/a.b/c");
        assert_eq!(package_of("gopkg.in/yaml%2ev2.map.init.0"), "gopkg.in/yaml%2ev2");
        assert_eq!(package_of("odd"), "odd");
    }
}
