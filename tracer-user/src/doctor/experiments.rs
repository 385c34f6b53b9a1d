//! Checks of features by trying them.

use std::{
    ffi::CStr,
    io::{self, IoSliceMut},
    mem,
};

use aya::{maps::MapType, programs::ProgramType};
use aya_obj::generated::{PERF_FLAG_FD_CLOEXEC, perf_event_attr};
use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::getpid,
};

use super::check::{Check, PROBING};
use crate::{
    kernel::privilege::{self, Need, Privileges, kernel_setting},
    plan::Mode,
    sources::starts::gate,
};

/// Makes every experiment.
pub fn all(ours: &Privileges) -> Vec<Check> {
    let mut checks = vec![process_vm_readv_works(), uprobes(), held_starts()];
    let bpf = bpf_syscall();
    let can_load = bpf.prevents.is_empty();
    checks.push(bpf);
    // Without permission every experiment with BPF fails, and says nothing about the kernel.
    if can_load && ours.missing_for(Need::LoadPrograms).is_empty() {
        checks.extend([ring_buffer(), uprobe_programs(), perf_links()]);
    }
    checks
}

/// Reads a word of our own memory, which only fails if the system call is missing or filtered.
fn process_vm_readv_works() -> Check {
    let name = "process_vm_readv";
    let word = 0x6d70_7363_6f70_6521_u64;
    let mut read = [0_u8; 8];
    let remote = RemoteIoVec {
        base: &raw const word as usize,
        len: read.len(),
    };
    match process_vm_readv(getpid(), &mut [IoSliceMut::new(&mut read)], &[remote]) {
        Ok(8) if u64::from_ne_bytes(read) == word => Check::ok(name, "works"),
        Ok(_) => Check::missing(name, "reads something else than there is", &[Mode::Passive]),
        Err(cause) => Check::missing(name, cause.to_string(), &[Mode::Passive]).advise(
            "a seccomp profile may forbid it: run the container with --security-opt seccomp=unconfined",
        ),
    }
}

/// Asks for a uprobe in a file that is not there: the kernel looks for the file only when it would have
/// allowed the probe.
fn uprobes() -> Check {
    let name = "uprobes";
    let kind =
        match kernel_setting("/sys/bus/event_source/devices/uprobe/type").map(|text| text.parse::<u32>()) {
            Some(Ok(kind)) => kind,
            _ => {
                return Check::missing(name, "no /sys/bus/event_source/devices/uprobe", PROBING)
                    .advise("a kernel with CONFIG_UPROBE_EVENTS, and /sys mounted, is needed");
            }
        };
    match open_uprobe(kind, c"/proc/self/no-such-file") {
        Some(cause) if cause.raw_os_error() == Some(libc::ENOENT) => Check::ok(name, "allowed"),
        Some(cause) if cause.kind() == io::ErrorKind::PermissionDenied => refused(
            Check::degraded(
                name,
                cause.to_string(),
                "probes can be attached by uprobe_multi only (see below)",
            ),
            Need::OpenProbe,
        ),
        Some(cause) => Check::degraded(name, cause.to_string(), "perf-event uprobes may not work"),
        None => Check::ok(name, "allowed"),
    }
}

/// Checks whether the kernel can hold programs until their probes are there. Holds none.
fn held_starts() -> Check {
    let name = "held starts";
    match gate::trial() {
        Ok(()) => Check::ok(name, "possible"),
        Err(why) => Check::degraded(
            name,
            why,
            "no run --follow; attach --next and the daemon's init.include only by probes in the whole binary",
        )
        .advise("run as root on the host, or give CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH, too"),
    }
}

/// Opens a perf uprobe event for this process, and closes it. Returns the error, if there was one.
fn open_uprobe(kind: u32, path: &CStr) -> Option<io::Error> {
    // SAFETY: all-zero bytes are a valid perf_event_attr.
    let mut attr: perf_event_attr = unsafe { mem::zeroed() };
    attr.type_ = kind;
    attr.size = mem::size_of::<perf_event_attr>() as u32;
    attr.set_disabled(1);
    attr.__bindgen_anon_3.uprobe_path = path.as_ptr() as u64;
    // SAFETY: `attr` and the path that it points to live until the call returns; arguments: this process,
    // any CPU, no group.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            0,
            -1,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Some(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nothing else uses it.
    unsafe { libc::close(fd as i32) };
    None
}

/// Creates the simplest map.
fn bpf_syscall() -> Check {
    let name = "bpf()";
    match aya::sys::is_map_supported(MapType::Array) {
        Ok(true) => Check::ok(name, "maps can be made"),
        Ok(false) => Check::missing(name, "arrays are not supported", PROBING),
        Err(error) if error.io_error.kind() == io::ErrorKind::PermissionDenied => refused(
            Check::missing(name, error.io_error.to_string(), PROBING),
            Need::LoadPrograms,
        ),
        Err(error) => Check::missing(name, error.io_error.to_string(), PROBING)
            .advise("a kernel with CONFIG_BPF_SYSCALL is needed; a seccomp profile can forbid it, too"),
    }
}

/// Adds the advice for a refusal to `check`, unless a capability is missing, which has its own line.
fn refused(check: Check, need: Need) -> Check {
    if Privileges::ours().missing_for(need).is_empty() {
        check.advise(privilege::advice(need))
    } else {
        check
    }
}

fn ring_buffer() -> Check {
    let name = "ring buffer";
    match aya::sys::is_map_supported(MapType::RingBuf) {
        Ok(true) => Check::ok(name, "can be made"),
        Ok(false) => {
            Check::missing(name, "not in this kernel", PROBING).advise("Linux 5.8 or newer is needed")
        }
        Err(error) => Check::missing(name, error.io_error.to_string(), PROBING),
    }
}

fn uprobe_programs() -> Check {
    let name = "uprobe programs";
    match aya::sys::is_program_supported(ProgramType::KProbe) {
        Ok(true) => Check::ok(name, "can be loaded"),
        Ok(false) => Check::missing(name, "not in this kernel", PROBING)
            .advise("a kernel with CONFIG_BPF_EVENTS and CONFIG_UPROBE_EVENTS is needed"),
        Err(error) => Check::missing(name, error.to_string(), PROBING),
    }
}

fn perf_links() -> Check {
    let name = "links and cookies";
    let features = aya::features();
    match (features.bpf_perf_link(), features.bpf_cookie()) {
        (true, true) => Check::ok(name, "both (Linux 5.15 and newer)"),
        (link, cookie) => {
            let missing = [(link, "BPF links for perf events"), (cookie, "attach cookies")];
            let missing: Vec<&str> = missing
                .iter()
                .filter(|(there, _)| !there)
                .map(|(_, what)| *what)
                .collect();
            Check::degraded(
                name,
                format!("no {}", missing.join(", no ")),
                "probe sites are identified by their addresses, which costs each hit some 30 ns more",
            )
            .advise("Linux 5.15 or newer has them")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Status, examine};

    #[test]
    fn the_experiment_with_uprobes_tells_a_missing_file_from_a_missing_permission() {
        let Some(kind) = kernel_setting("/sys/bus/event_source/devices/uprobe/type") else {
            assert_eq!(uprobes().prevents, PROBING);
            return;
        };
        let cause = open_uprobe(kind.parse().unwrap(), c"/proc/self/no-such-file").unwrap();
        let permitted = Privileges::ours().missing_for(Need::OpenProbe).is_empty();
        let expected = if permitted { libc::ENOENT } else { libc::EACCES };
        assert_eq!(cause.raw_os_error(), Some(expected), "{cause}");
    }

    #[test]
    fn whoever_may_load_programs_gets_every_experiment() {
        let report = examine();
        let found = |name: &str| report.checks.iter().find(|check| check.name == name);
        assert_eq!(found("process_vm_readv").unwrap().status, Status::Ok);
        let bpf = found("bpf()").unwrap();
        assert_eq!(found("ring buffer").is_some(), bpf.status == Status::Ok);
        for check in &report.checks {
            assert_eq!(
                check.consequence.is_none(),
                check.status == Status::Ok,
                "{check:?}"
            );
        }
    }
}
