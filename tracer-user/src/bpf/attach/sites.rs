//! The kernel side's tables of sites: what a program looks up at a hit.
//!
//! Where the kernel has attach cookies (Linux 5.15), a site is known by its cookie, which is an index; before, by
//! process and address.

use tracer_ebpf::{SITES_PER_TARGET, SiteKey};

use super::{LinkKind, Point, ProgramKind, Scope};
use crate::{
    bpf::{kernel::Kernel, maps},
    error::{Error, Result},
};

/// Inode of the initial PID namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xeffffffc;

/// Refuses more points than a slot has room for.
///
/// # Errors
/// There are more.
pub(in crate::bpf) fn check_room(points: &[Point], scope: Scope) -> Result<()> {
    if points.len() <= SITES_PER_TARGET as usize {
        return Ok(());
    }
    Err(Error::not_traceable(format!(
        "{} instructions were to be probed in {scope}, and a target has room for {SITES_PER_TARGET}; please \
         report this with the Go version of the program",
        points.len()
    )))
}

/// The cookie of a slot's first site.
pub(in crate::bpf) const fn first_cookie(slot: u32) -> u32 {
    slot * SITES_PER_TARGET
}

/// Writes the sites of `points`, by cookies where links of this kind have them, and returns the name of the program
/// that looks them up so.
///
/// # Errors
/// The kernel's table cannot be written, or gmpscope's PIDs are not the kernel's and there are no cookies.
pub(in crate::bpf) fn write_sites(
    kernel: &mut Kernel,
    program: ProgramKind,
    points: &[Point],
    first_cookie: u32,
    scope: Scope,
    kind: LinkKind,
) -> Result<&'static str> {
    if kind == LinkKind::Multi || aya::features().bpf_cookie() {
        write_by_cookie(kernel, points, first_cookie)?;
        return Ok(program.with_cookies());
    }
    write_by_ip(kernel, program, points, scope)?;
    Ok(program.with_addresses())
}

fn write_by_cookie(kernel: &mut Kernel, points: &[Point], first_cookie: u32) -> Result<()> {
    let mut table = maps::sites(&mut kernel.ebpf)?;
    for (cookie, point) in (first_cookie..).zip(points) {
        table
            .set(cookie, maps::Abi(point.site), 0)
            .map_err(maps::context("write", "SITES"))?;
    }
    Ok(())
}

fn write_by_ip(kernel: &mut Kernel, program: ProgramKind, points: &[Point], scope: Scope) -> Result<()> {
    // The programs see PIDs of the initial namespace: with any other every hit would be lost in silence.
    if !in_initial_pid_namespace() && program != ProgramKind::Mark {
        return Err(Error::not_permitted(
            "this kernel has no attach cookies (they came with 5.15), and without them probes can only be \
             identified in the initial PID namespace; run gmpscope there (on the host, or in a container with \
             hostPID), or use --mode passive",
        ));
    }
    let mut table = maps::sites_by_ip(&mut kernel.ebpf)?;
    for point in points {
        table
            .insert(
                maps::Abi(key_by_ip(program, point, scope)),
                maps::Abi(point.site),
                0,
            )
            .map_err(maps::context("write", "SITES_BY_IP"))?;
    }
    Ok(())
}

/// Whether gmpscope's own PIDs are those that the kernel's programs see.
pub fn in_initial_pid_namespace() -> bool {
    rustix::fs::stat("/proc/self/ns/pid").is_ok_and(|ns| ns.st_ino == INITIAL_PID_NAMESPACE)
}

/// The keys under which [`attach`](super::attach) wrote the sites, where there are no cookies: to be removed when
/// the probes are gone.
pub fn keys_by_ip(program: ProgramKind, points: &[Point], scope: Scope) -> Vec<SiteKey> {
    if aya::features().bpf_cookie() {
        return Vec::new();
    }
    points
        .iter()
        .map(|point| key_by_ip(program, point, scope))
        .collect()
}

/// The key of one site. Marks are distinguished by binary and link-time address, in any process.
fn key_by_ip(program: ProgramKind, point: &Point, scope: Scope) -> SiteKey {
    match program {
        ProgramKind::Mark => SiteKey::of_binary(point.address, u32::from(point.site.binary)),
        _ => SiteKey::of_process(point.address, scope.pid()),
    }
}
