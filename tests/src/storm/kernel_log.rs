//! Finds complaints in the kernel's log, from /dev/kmsg (Documentation/ABI/testing/dev-kmsg).

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context, Result};

/// What uprobes log when a process that is being killed may not fault in the page of a breakpoint
/// (`uprobe_unregister_nosync`, `__get_user_pages`): also for one in its own memory, which ends with it, and where no
/// breakpoint was written yet. Whether a breakpoint has stayed in a target is visible in its text, so such a line is
/// counted, but is not wrong by itself.
const LEAK: &str = "leaking uprobe";
/// Words of a line that says that something is broken.
const COMPLAINTS: [&str; 7] = [
    "BUG:",
    "WARNING:",
    "Oops",
    "general protection",
    "Kernel panic",
    "blocked for more than",
    "uprobe: ",
];

/// The kernel's log from now on.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
    leaks: u64,
}

impl KernelLog {
    /// Opens the log at its end.
    pub fn open() -> Result<Self> {
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .context("opening the kernel's log: run this as root")?;
        file.seek(SeekFrom::End(0))
            .context("finding the end of the kernel's log")?;
        Ok(Self { file, leaks: 0 })
    }

    /// How often the kernel said that it leaks a uprobe.
    pub fn leaks(&self) -> u64 {
        self.leaks
    }

    /// Returns new lines with complaints.
    pub fn complaints(&mut self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => return Ok(found),
                Ok(length) => {
                    let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    match text.contains(LEAK) {
                        true => self.leaks += 1,
                        false => found.extend(complaint(&text)),
                    }
                }
                // The oldest records were overwritten before we read them: the next read continues after the gap.
                Err(e) if e.kind() == ErrorKind::BrokenPipe || e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(found),
                Err(e) => return Err(e).context("reading the kernel's log"),
            }
        }
    }
}

/// Returns the message of a record, `level,number,time,flags;message`, if it is a complaint.
fn complaint(record: &str) -> Option<String> {
    let message = record.split_once(';')?.1.lines().next()?;
    // A target that dies of a breakpoint that no longer belongs to a probe.
    let is_trap = message.contains("trap int3") || message.contains("trap invalid opcode");
    (COMPLAINTS.iter().any(|it| message.contains(it)) || is_trap && message.contains("storm"))
        .then(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_is_distinguished_from_the_rest() {
        for broken in [
            "4,1,2,-;WARNING: CPU: 1 PID: 77 at kernel/events/uprobes.c:560 uprobe_write+0x1/0x2",
            "4,1,2,-;uprobe: gmpscope:77 ref_ctr going negative",
            "0,1,2,-;BUG: unable to handle page fault for address: 0",
            "6,1,2,-;traps: storm[77] trap int3 ip:1 sp:2 error:0 in storm[400000+1000]\n SUBSYSTEM=x",
        ] {
            assert!(complaint(broken).is_some(), "{broken}");
        }
        for harmless in [
            "6,1,2,-;systemd[1]: Started a service.",
            "6,1,2,-;traps: other[77] trap int3 ip:1 sp:2 error:0",
            "no record",
        ] {
            assert_eq!(complaint(harmless), None);
        }
    }
}
