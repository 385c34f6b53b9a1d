//! Lists all processes, from /proc.

use std::{fs, io};

use super::census::Scanned;
use crate::process::file::FileState;
use crate::process::{text_of, threads};

/// Lists all processes but kernel threads. One that ends meanwhile may be in the list or not.
///
/// # Errors
/// /proc cannot be read.
pub fn scan() -> io::Result<Vec<Scanned>> {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let since_boot_ns = since_boot_ns();
    let seen = pids()?.into_iter().filter_map(|pid| {
        let stat = text_of(format!("/proc/{pid}/stat")).ok()?;
        let (start_time, is_leaderless) = start_time(&stat)?;
        let folder = match is_leaderless {
            true => threads::folder(pid),
            false => format!("/proc/{pid}"),
        };
        let started_ns = u128::from(start_time) * 1_000_000_000 / u128::from(ticks);
        let exe = FileState::known_at(&format!("{folder}/exe")).ok();
        Some(Scanned {
            pid,
            start_time,
            age_ns: since_boot_ns.saturating_sub(u64::try_from(started_ns).unwrap_or(u64::MAX)),
            exe: exe.map(|exe| (exe.id.device, exe.id.inode)),
        })
    });
    Ok(seen.collect())
}

/// Lists the PIDs of all processes, kernel threads included; 30 times as fast as [`scan`].
///
/// # Errors
/// /proc cannot be read.
pub fn pids() -> io::Result<Vec<u32>> {
    let names = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// `PF_KTHREAD`, include/linux/sched.h.
const PF_KTHREAD: u64 = 0x0020_0000;

/// The start time in the text of a `/proc/PID/stat`, and whether the first thread has ended, and others live on; `None`
/// for a kernel thread, and for a zombie, which has no program any more. Fields are counted after the name, which may
/// hold anything (proc_pid_stat(5)).
fn start_time(stat: &str) -> Option<(u64, bool)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let threads: u64 = fields.nth(10)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    let has_ended = matches!(state, "Z" | "X" | "x");
    // The one that has ended is counted with the others.
    let is_there = flags & PF_KTHREAD == 0 && (!has_ended || threads > 1);
    is_there.then_some((start_time, has_ended))
}

/// CLOCK_BOOTTIME, the clock of start times.
fn since_boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn we_are_in_it_and_as_old_as_we_are() {
        let pid = std::process::id();
        let ourselves = scan().unwrap().into_iter().find(|p| p.pid == pid).unwrap();
        let exe = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(ourselves.exe, Some((exe.dev(), exe.ino())));
        let stat = procfs::process::Process::myself().unwrap().stat().unwrap();
        assert_eq!(ourselves.start_time, stat.starttime);
        assert!(ourselves.age_ns < 3_600_000_000_000, "{ourselves:?}");
        assert!(pids().unwrap().contains(&pid));
    }

    #[test]
    fn names_may_hold_anything() {
        let behind = "S 1 2 3 4 5 4194560 7 8 9 10 11 12 13 14 20 0 1 0 4711 22";
        assert_eq!(start_time(&format!("12 (a) b) {behind}")), Some((4711, false)));
        assert_eq!(
            start_time(&format!("12 () (S 1 2) {behind}")),
            Some((4711, false))
        );
        let zombie = behind.replace('S', "Z");
        assert_eq!(start_time(&format!("12 (a) {zombie}")), None);
        let leaderless = zombie.replace("20 0 1 0", "20 0 2 0");
        assert_eq!(
            start_time(&format!("12 (a) {leaderless}")),
            Some((4711, true)),
            "one more thread lives"
        );
        assert_eq!(
            start_time(&format!("2 (kthreadd) {}", behind.replace("4194560", "2129984"))),
            None
        );
        for hostile in ["", "1 (x", "1 (x) ", "1 (x) S 1", "x) S 1 2 3 4 5 x"] {
            assert_eq!(start_time(hostile), None);
        }
    }
}
