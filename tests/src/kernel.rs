//! Reads what is in the kernel and in the text of a process, so that a test can assert that nothing of ours is left.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Commands of bpf(2) that walk over all objects of a kind (linux/bpf.h, enum bpf_cmd).
const KINDS: [(&str, i32); 3] = [("program", 11), ("map", 12), ("link", 31)];

/// Ids of all BPF programs, maps and links.
pub fn bpf_objects() -> Result<BTreeSet<(&'static str, u32)>> {
    let mut all = BTreeSet::new();
    for (kind, command) in KINDS {
        let mut id = 0_u32;
        loop {
            // start_id, next_id, open_flags of union bpf_attr.
            let mut attr = [id, 0, 0];
            // SAFETY: `attr` is valid for the 12 bytes that the kernel reads and writes.
            let r = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), 12) };
            if r != 0 {
                let e = std::io::Error::last_os_error();
                match e.raw_os_error() {
                    Some(libc::ENOENT) => break,
                    _ => {
                        return Err(e)
                            .context("walking over the kernel's BPF objects: run the tests as root");
                    }
                }
            }
            id = attr[1];
            all.insert((kind, id));
        }
    }
    Ok(all)
}

/// Types of BPF programs that run at probes and tracepoints (linux/bpf.h, enum bpf_prog_type): kprobe, which uprobes
/// have too, tracepoint, perf event, raw tracepoint, tracing.
const PROBING: [u32; 5] = [2, 5, 7, 17, 26];

/// Ids of all BPF programs at probes and tracepoints, whoever has loaded them. Those of services (cgroups, sockets),
/// which come and go by themselves, are not included.
pub fn probing_programs() -> Result<BTreeSet<u32>> {
    let programs = bpf_objects()?.into_iter().filter(|(kind, _)| *kind == "program");
    // A program that has gone meanwhile has no type any more.
    Ok(programs
        .map(|(_, id)| id)
        .filter(|id| program_type(*id).is_some_and(|kind| PROBING.contains(&kind)))
        .collect())
}

/// The type of a program, from what the kernel reports about a descriptor for it.
fn program_type(id: u32) -> Option<u32> {
    use std::os::fd::{AsRawFd as _, FromRawFd as _};
    const BPF_PROG_GET_FD_BY_ID: i32 = 13;
    // prog_id, next_id, open_flags of union bpf_attr.
    let attr = [id, 0, 0];
    // SAFETY: `attr` is valid for the 12 bytes that the kernel reads.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, attr.as_ptr(), 12) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the call made this descriptor, and nothing else owns it.
    let program = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as i32) };
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("prog_type:"))?;
    line.trim().parse().ok()
}

/// Waits until none of these objects exists any more: the kernel frees them some time after the last file descriptor
/// is closed.
pub fn wait_until_gone(ours: &BTreeSet<(&'static str, u32)>, at_most: Duration) -> Result<()> {
    let end = Instant::now() + at_most;
    loop {
        let left: Vec<_> = bpf_objects()?.intersection(ours).copied().collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("still in the kernel after {at_most:?}: {left:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Addresses at which the executable memory of a process differs from the file that it maps: breakpoints.
pub fn patched_text(pid: u32) -> Result<Vec<u64>> {
    let exe = std::fs::read(format!("/proc/{pid}/exe"))?;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let path = std::fs::read_link(format!("/proc/{pid}/exe"))?;
    let mut memory = std::fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut patched = Vec::new();
    let mut compared = 0;
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, permissions, offset, _, _, name, ..] = fields.as_slice() else {
            continue;
        };
        if !permissions.contains('x') || *name != path.display().to_string() {
            continue;
        }
        let (from, to) = range.split_once('-').context("a line of maps without a range")?;
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        let offset = usize::from_str_radix(offset, 16)?;
        let mut text = vec![0; (to - from) as usize];
        memory.seek(SeekFrom::Start(from))?;
        memory.read_exact(&mut text)?;
        let file = exe.get(offset..).unwrap_or_default();
        compared += text.len().min(file.len());
        patched.extend(
            text.iter()
                .zip(file)
                .enumerate()
                .filter(|(_, (a, b))| a != b)
                .map(|(i, _)| from + i as u64),
        );
    }
    if compared == 0 {
        bail!("process {pid} maps no text of {}", path.display());
    }
    Ok(patched)
}

/// Ids of the BPF links that a process holds, from /proc/PID/fdinfo (kernel/bpf/syscall.c, `bpf_link_show_fdinfo`).
pub fn bpf_links_of(pid: u32) -> Result<BTreeSet<u32>> {
    ids_of(pid, "link_id:")
}

/// All BPF objects that a process holds by file descriptors, as [`bpf_objects`] names them.
pub fn bpf_objects_of(pid: u32) -> Result<BTreeSet<(&'static str, u32)>> {
    let mut all = BTreeSet::new();
    for (kind, field) in [("program", "prog_id:"), ("map", "map_id:"), ("link", "link_id:")] {
        all.extend(ids_of(pid, field)?.into_iter().map(|id| (kind, id)));
    }
    Ok(all)
}

fn ids_of(pid: u32, field: &str) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix(field));
        ids.extend(found.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    Ok(ids)
}

/// Counts how often the kernel runs each BPF program, until it is dropped. The figure is the kernel's own, which
/// does not depend on what a program does.
#[derive(Debug)]
pub struct Runs {
    _stats: std::os::fd::OwnedFd,
}

impl Runs {
    /// `BPF_ENABLE_STATS` with `BPF_STATS_RUN_TIME` (linux/bpf.h).
    pub fn count() -> Result<Self> {
        const BPF_ENABLE_STATS: i32 = 32;
        let attr = [0_u32];
        // SAFETY: `attr` is valid for the 4 bytes that the kernel reads.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, attr.as_ptr(), 4) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error())
                .context("asking the kernel to count: run the tests as root");
        }
        use std::os::fd::FromRawFd;
        // SAFETY: the call made this descriptor, and nothing else owns it.
        let stats = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as i32) };
        Ok(Self { _stats: stats })
    }

    /// Runs of all programs on probed instructions that a process has loaded: the sum of `run_cnt`, which
    /// /proc/PID/fdinfo shows.
    pub fn of(&self, pid: u32) -> Result<u64> {
        let mut programs = std::collections::BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
            let field = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|value| value.trim().parse::<u64>().ok())
            };
            // BPF_PROG_TYPE_KPROBE, the type of uprobe programs too.
            const KPROBE: u64 = 2;
            if let (Some(id), Some(KPROBE), Some(runs)) =
                (field("prog_id:"), field("prog_type:"), field("run_cnt:"))
            {
                programs.insert(id, runs);
            }
        }
        if programs.is_empty() {
            bail!("process {pid} has loaded no BPF program");
        }
        Ok(programs.values().sum())
    }
}
