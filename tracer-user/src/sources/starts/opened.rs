//! Turns the kernel side's system calls into observations, with the files that their descriptors stand for.

use std::{collections::BTreeMap, fs};

use tracer_ebpf::start::{CallEvent, call_kind};

use super::calls;
use crate::stream::{Event, Kind, Observation, start::StartCall};

/// Most descriptors that are remembered.
const MOST_DESCRIPTORS: usize = 4_096;

/// What the descriptors of processes stand for, from earlier calls that opened them.
pub struct Opened {
    known: BTreeMap<(u32, u64), String>,
    slow_call_ns: u64,
}

impl Opened {
    /// Knows no descriptor yet. Calls that open something are always sent, but only those of at least `slow_call_ns`
    /// become observations.
    pub fn new(slow_call_ns: u64) -> Self {
        Self {
            known: BTreeMap::new(),
            slow_call_ns,
        }
    }

    /// Takes in a call that has returned; `None` if it was only sent for the descriptor that it opened.
    pub fn returned(&mut self, event: &CallEvent) -> Option<Observation> {
        let opens = [call_kind::OPEN_0, call_kind::OPEN_1].contains(&event.kind);
        let text = calls::text(event.kind, &event.text);
        let opened = match (opens, u64::try_from(event.result)) {
            (true, opened) => opened.ok(),
            (false, _) => (event.kind == call_kind::CONNECT).then_some(event.descriptor),
        };
        if let (Some(opened), Some(text)) = (opened, &text) {
            if self.known.len() >= MOST_DESCRIPTORS {
                self.known.pop_first();
            }
            self.known.insert((event.tgid, opened), text.clone());
        }
        if opens && event.duration_ns < self.slow_call_ns {
            return None;
        }
        let on = text.or_else(|| self.descriptor(event.tgid, event.number, event.descriptor));
        Some(Observation {
            at_ns: event.at_ns,
            kind: Kind::Event(Event::StartCall(StartCall {
                pid: event.tgid,
                tid: event.tid,
                main_thread: event.tid == event.tgid,
                name: calls::name(event.number),
                on,
                duration_ns: event.duration_ns,
                result: Some(event.result),
            })),
        })
    }

    /// What a descriptor of the process stands for, where the system call works on one: what it was opened as, or else
    /// what it is now.
    pub fn descriptor(&self, pid: u32, number: u32, descriptor: u64) -> Option<String> {
        if !calls::works_on_descriptor(number) {
            return None;
        }
        self.known.get(&(pid, descriptor)).cloned().or_else(|| {
            let link = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
            Some(link.to_string_lossy().into_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::start::CALL_TEXT;

    use super::*;

    fn event(number: libc::c_long, kind: u32, duration_ns: u64, result: i64, path: &[u8]) -> CallEvent {
        let mut text = [0; CALL_TEXT];
        text[..path.len()].copy_from_slice(path);
        CallEvent {
            at_ns: 0,
            duration_ns,
            result,
            descriptor: 9,
            tgid: u32::MAX,
            tid: u32::MAX,
            number: u32::try_from(number).unwrap(),
            kind,
            text,
        }
    }

    fn on(seen: Option<Observation>) -> Option<String> {
        match seen?.kind {
            Kind::Event(Event::StartCall(call)) => call.on,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_read_is_named_by_what_was_opened() {
        let mut opened = Opened::new(1_000);
        let open = event(libc::SYS_openat, call_kind::OPEN_1, 10, 9, b"/etc/passwd");
        assert_eq!(opened.returned(&open), None, "fast");
        let read = event(libc::SYS_read, call_kind::DESCRIPTOR, 5_000, 1, b"");
        assert_eq!(on(opened.returned(&read)).as_deref(), Some("/etc/passwd"));
        let open = event(libc::SYS_openat, call_kind::OPEN_1, 5_000, -2, b"/etc/group");
        assert_eq!(on(opened.returned(&open)).as_deref(), Some("/etc/group"));
        assert_eq!(
            on(opened.returned(&read)).as_deref(),
            Some("/etc/passwd"),
            "that failed"
        );
    }
}
