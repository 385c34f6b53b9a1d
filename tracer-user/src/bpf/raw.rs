//! Calls of `bpf(2)` that aya 0.14 does not make: loading a program for uprobe_multi links, or to read the verifier's
//! count, and creating such links.

use std::{
    ffi::{CStr, CString, c_long},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};

use super::shielded;

/// Bytes of the verifier's log that are kept.
const VERIFIER_LOG_BYTES: usize = 1 << 20;
/// Last lines of the log that an error shows.
const SHOWN_LINES: usize = 8;
/// What the verifier logs (BPF_LOG_* of linux/bpf_verifier.h): every step, or the final figures alone.
const LOG_STEPS: u32 = 1;
const LOG_FIGURES: u32 = 4;

/// What a program is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be attached to a perf event.
    PerfEvent,
    /// To be attached by uprobe_multi links.
    Multi,
    /// To be attached to a raw tracepoint.
    RawTracepoint,
}

impl Purpose {
    fn program_type(self) -> u32 {
        let kind = match self {
            Self::PerfEvent | Self::Multi => bpf_prog_type::BPF_PROG_TYPE_KPROBE,
            Self::RawTracepoint => bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT,
        };
        kind as u32
    }

    fn attach_type(self) -> u32 {
        match self {
            Self::PerfEvent | Self::RawTracepoint => 0,
            Self::Multi => bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
        }
    }
}

/// Loads a program.
///
/// # Errors
/// The kernel's errno, and the verifier's last words on lines of their own.
pub fn load(
    instructions: &[bpf_insn],
    license: &CStr,
    purpose: Purpose,
) -> Result<OwnedFd, (io::Error, String)> {
    let quiet = load_logging(instructions, license, purpose, 0, &mut []);
    match quiet {
        Err(e) if e.raw_os_error() != Some(libc::EPERM) => {
            let mut log = vec![0; VERIFIER_LOG_BYTES];
            // Before Linux 6.4, the errno of this call may only say that the log was too small.
            let _ = load_logging(instructions, license, purpose, LOG_STEPS, &mut log);
            let text = text_of(&log);
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES));
            Err((e, last.map(|line| format!("\n  {line}")).collect()))
        }
        other => other.map_err(|e| (e, String::new())),
    }
}

/// Loads a program, unloads it, and returns how many instructions the verifier processed.
///
/// # Errors
/// As [`load`]; `InvalidData` where the kernel loads the program but does not report the number.
pub fn verified_instructions(
    instructions: &[bpf_insn],
    license: &CStr,
    purpose: Purpose,
) -> Result<u32, (io::Error, String)> {
    // The verifier's steps explain a refusal better.
    drop(load(instructions, license, purpose)?);
    let mut log = vec![0; VERIFIER_LOG_BYTES];
    load_logging(instructions, license, purpose, LOG_FIGURES, &mut log).map_err(|e| (e, String::new()))?;
    let text = text_of(&log);
    processed(&text).ok_or_else(|| (io::Error::from(io::ErrorKind::InvalidData), format!(": {text}")))
}

/// `processed 123 insns (limit 1000000) …` (print_verification_stats, kernel/bpf/verifier.c).
fn processed(log: &str) -> Option<u32> {
    log.lines()
        .find_map(|line| line.strip_prefix("processed ")?.split(' ').next()?.parse().ok())
}

fn text_of(log: &[u8]) -> String {
    String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

fn load_logging(
    instructions: &[bpf_insn],
    license: &CStr,
    purpose: Purpose,
    log_level: u32,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    // SAFETY: bpf_attr is a union of plain data; all zero is a valid value.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the union's member for BPF_PROG_LOAD is written before the call, and only that.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = purpose.program_type();
    load.expected_attach_type = purpose.attach_type();
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = instructions.len() as u32;
    load.license = license.as_ptr() as u64;
    if !log.is_empty() {
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log.len() as u32;
        load.log_level = log_level;
    }
    // SAFETY: every pointer in `attr` is to memory that lives until after the call.
    unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &attr) }
}

/// Attaches a program to all `offsets` of the file at `path`, in process `pid` (0: in every process). Attaches to all of
/// them or none, even if this process is killed meanwhile.
///
/// # Errors
/// The kernel's errno.
pub fn link_create(
    program: BorrowedFd<'_>,
    path: &Path,
    offsets: &[u64],
    cookies: &[u64],
    pid: u32,
) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt as _;

    debug_assert_eq!(offsets.len(), cookies.len());
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: bpf_attr is a union of plain data; all zero is a valid value.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the union's member for BPF_LINK_CREATE is written before the call, and only that.
    unsafe {
        let create = &mut attr.link_create;
        create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
        create.attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
        let multi = &mut create.__bindgen_anon_3.uprobe_multi;
        multi.path = path.as_ptr() as u64;
        multi.offsets = offsets.as_ptr() as u64;
        multi.cookies = cookies.as_ptr() as u64;
        multi.cnt = offsets.len() as u32;
        multi.pid = pid;
    }
    // SAFETY: every pointer in `attr` is to memory that lives until after the call; the kernel takes the size of the whole
    // union.
    let fd = unsafe {
        shielded::syscall(
            libc::SYS_bpf,
            [
                bpf_cmd::BPF_LINK_CREATE as c_long,
                &raw const attr as c_long,
                size_of::<bpf_attr>() as c_long,
            ],
        )
    }?;
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a program to a perf event by a link with a `cookie` (Linux 5.15).
///
/// # Errors
/// The kernel's errno.
pub fn link_event(program: BorrowedFd<'_>, event: BorrowedFd<'_>, cookie: u64) -> io::Result<OwnedFd> {
    // SAFETY: bpf_attr is a union of plain data; all zero is a valid value.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the union's member for BPF_LINK_CREATE is written before the call, and only that.
    unsafe {
        let create = &mut attr.link_create;
        create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
        create.__bindgen_anon_2.target_fd = event.as_raw_fd() as u32;
        create.attach_type = bpf_attach_type::BPF_PERF_EVENT as u32;
        create.__bindgen_anon_3.perf_event.bpf_cookie = cookie;
    }
    // SAFETY: `attr` holds descriptors and a number.
    unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &attr) }
}

/// Makes the system call, and takes the descriptor that it returns.
///
/// # Safety
/// Every pointer in `attr` must be valid for what `cmd` does with it.
unsafe fn bpf(cmd: bpf_cmd, attr: &bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: passed on to the caller; the kernel takes the size of the whole union.
    let fd: c_long = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            cmd as c_long,
            attr as *const bpf_attr,
            size_of::<bpf_attr>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::processed;

    #[test]
    fn the_verifiers_figure_is_found() {
        let log = "func#0 @0\nprocessed 218 insns (limit 1000000) max_states_per_insn 1 total_states 12\n";
        assert_eq!(processed(log), Some(218));
        assert_eq!(processed("verification time 12 usec"), None);
    }
}
