//! Attaching to the sites of one process, and letting go again.

use std::{
    fs::File,
    num::NonZeroU32,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use tracer_ebpf::{SITES_PER_TARGET, Site, SiteKey};

use super::{events, kernel::Kernel, maps, multi};
use crate::{
    error::{Error, Result},
    escape::Untrusted,
    kernel::{privilege::Need, refusal::refused},
};

/// Set to anything, this variable has probes opened as perf events though uprobe_multi works: for tests, and
/// for a kernel whose links misbehave.
const FORCE_PERF_EVENTS: &str = "GMPSCOPE_PERF_EVENTS";

/// Inode of the initial PID namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xeffffffc;

/// Which programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgramKind {
    /// Two hits per scheduling cycle.
    Exact,
    /// One hit per wait that the runtime tracks.
    Sampled,
    /// Every transition.
    Full,
    /// The same, and where goroutines block.
    Stacks,
    /// Moments of a process's start. Without cookies its sites are known by their binary and link-time addresses,
    /// whatever the process: they are attached before it has any.
    Mark,
    /// Nothing but the trap.
    Empty,
}

impl ProgramKind {
    const ALL: [Self; 6] = [
        Self::Exact,
        Self::Sampled,
        Self::Full,
        Self::Stacks,
        Self::Mark,
        Self::Empty,
    ];

    fn with_cookies(self) -> &'static str {
        match self {
            Self::Exact => "exact_cookie",
            Self::Sampled => "sampled_cookie",
            Self::Full => "full_cookie",
            Self::Stacks => "stacks_cookie",
            Self::Mark => "mark_cookie",
            Self::Empty => "empty",
        }
    }

    fn with_addresses(self) -> &'static str {
        match self {
            Self::Exact => "exact_ip",
            Self::Sampled => "sampled_ip",
            Self::Full => "full_ip",
            Self::Stacks => "stacks_ip",
            Self::Mark => "mark_ip",
            Self::Empty => "empty",
        }
    }
}

/// Names of the programs that a kernel may be given, each once. Those that ask for the cookie do not load
/// where there are none; those that go by address do everywhere.
pub fn programs(cookies: bool) -> impl Iterator<Item = &'static str> {
    let with_cookies = ProgramKind::ALL.into_iter().filter(move |_| cookies);
    let mut names: Vec<_> = with_cookies
        .map(ProgramKind::with_cookies)
        .chain(ProgramKind::ALL.map(ProgramKind::with_addresses))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter()
}

/// How probes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// One uprobe_multi link.
    Multi,
    /// A perf event for each site.
    PerfEvents,
}

impl LinkKind {
    /// The name that text and JSON use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Multi => "uprobe_multi",
            Self::PerfEvents => "perf_events",
        }
    }
}

/// Who pays for probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One process, all its threads.
    Process(NonZeroU32),
    /// Every process that maps the file, also those to come.
    Binary,
}

impl Scope {
    /// The process with this id.
    ///
    /// # Errors
    /// 0 is none.
    pub fn process(pid: u32) -> Result<Self> {
        NonZeroU32::new(pid)
            .map(Self::Process)
            .ok_or_else(|| Error::usage("0 is not the id of a process"))
    }

    /// As the kernel's interfaces have it.
    fn pid(self) -> u32 {
        match self {
            Self::Process(pid) => pid.get(),
            Self::Binary => 0,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Binary => f.write_str("all processes of the binary"),
        }
    }
}

/// One instruction to attach to.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Where in the file.
    pub file_offset: u64,
    /// Where in the running process.
    pub address: u64,
    /// What the program is to know.
    pub site: Site,
}

/// Probes that are live. Dropped, they are gone: with one multi link in some 35 ms, with perf events the
/// kernel takes some 80 ms for each, so print first.
pub struct Probes {
    /// How they are held.
    pub kind: LinkKind,
    links: Links,
}

impl Probes {
    /// Each descriptor by itself, to be dropped by several threads at once: the kernel lets them wait together.
    pub fn apart(self) -> Vec<Self> {
        let kind = self.kind;
        match self.links {
            links @ Links::Multi(..) => vec![Self { kind, links }],
            Links::PerfEvents(links) => {
                let alone = links.into_iter().map(|link| Links::PerfEvents(vec![link]));
                alone.map(|links| Self { kind, links }).collect()
            }
        }
    }
}

#[allow(dead_code, reason = "held for what their drop does")]
enum Links {
    Multi(multi::Link, Arc<multi::Program>),
    PerfEvents(Vec<events::Probe>),
}

/// Attaches `program` to `points` of `scope`, whose mapped executable is at `file`
/// (`/proc/PID/exe`). Their sites take the place of those that `slot` had before.
///
/// # Errors
/// [`crate::error::Failure::NotPermitted`] where the kernel refuses; both ways are in the message.
pub fn attach(
    kernel: &mut Kernel,
    program: ProgramKind,
    points: &[Point],
    slot: u32,
    scope: Scope,
    file: &Path,
) -> Result<Probes> {
    fits(points, scope)?;
    let first_cookie = first_cookie(slot);
    let opened = File::open(file)
        .map_err(|e| Error::not_traceable(format!("could not open {}: {e}", file.display())))?;
    read_pages(&opened, points)?;
    match way(kernel) {
        Way::Events => attach_perf(kernel, program, points, first_cookie, scope, file),
        Way::Multi => match attach_multi(kernel, program, points, first_cookie, scope, file) {
            Ok(probes) => Ok(probes),
            Err(multi_error) => {
                attach_perf(kernel, program, points, first_cookie, scope, file).map_err(|perf_error| Error {
                    failure: perf_error.failure,
                    message: format!(
                        "could not attach to {scope}: by uprobe_multi: {multi_error}; by perf events: \
                         {perf_error}"
                    ),
                })
            }
        },
    }
}

/// Refuses more points than a slot has room for.
///
/// # Errors
/// There are more.
pub(super) fn fits(points: &[Point], scope: Scope) -> Result<()> {
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
pub(super) const fn first_cookie(slot: u32) -> u32 {
    slot * SITES_PER_TARGET
}

/// How probes are opened here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// All by one uprobe_multi link.
    Multi,
    /// Each by a perf event.
    Events,
}

/// How probes are to be opened here.
pub(super) fn way(kernel: &mut Kernel) -> Way {
    if std::env::var_os(FORCE_PERF_EVENTS).is_some() {
        log::info!("{FORCE_PERF_EVENTS} is set: attaching by perf events");
        return Way::Events;
    }
    match kernel.multi_support() {
        multi::Support::Works => Way::Multi,
        multi::Support::Missing(why) => {
            log::info!(
                "no uprobe_multi links here ({why}); attaching by perf events, which are slow to detach"
            );
            Way::Events
        }
        multi::Support::PidFilterBroken => {
            log::info!(
                "this kernel's uprobe_multi links filter by thread in place of process (fixed in 6.6.35, \
                 6.9.5, 6.10); attaching by perf events, which are slow to detach"
            );
            Way::Events
        }
    }
}

/// Reads the page of each site: attaching to a page that is not in the page cache makes some kernels
/// (seen on 6.18) print a warning from ext4, which is fatal under `panic_on_warn`.
pub(super) fn read_pages(file: &File, points: &[Point]) -> Result<()> {
    for point in points {
        file.read_exact_at(&mut [0], point.file_offset).map_err(|e| {
            let name = std::fs::read_link(path_of(file)).unwrap_or_else(|_| path_of(file));
            Error::not_traceable(format!(
                "could not read offset {:#x} of {}, where a probe was to be: {e}",
                point.file_offset,
                Untrusted::path(&name)
            ))
        })?;
    }
    Ok(())
}

/// Writes the sites of `points`, by cookies where the kernel has them; the name of the program that knows them so.
pub(super) fn write(
    kernel: &mut Kernel,
    program: ProgramKind,
    points: &[Point],
    first_cookie: u32,
    scope: Scope,
    way: Way,
) -> Result<&'static str> {
    if way == Way::Multi || aya::features().bpf_cookie() {
        write_sites(kernel, points, first_cookie)?;
        return Ok(program.with_cookies());
    }
    write_sites_by_ip(kernel, program, points, scope)?;
    Ok(program.with_addresses())
}

fn attach_multi(
    kernel: &mut Kernel,
    program: ProgramKind,
    points: &[Point],
    first_cookie: u32,
    scope: Scope,
    file: &Path,
) -> Result<Probes> {
    let name = write(kernel, program, points, first_cookie, scope, Way::Multi)?;
    let loaded = kernel.program_for_multi(name)?;
    link_multi(&loaded, points, first_cookie, scope, file)
}

/// Attaches a loaded program to points whose sites are written, by one link.
pub(super) fn link_multi(
    loaded: &Arc<multi::Program>,
    points: &[Point],
    first_cookie: u32,
    scope: Scope,
    file: &Path,
) -> Result<Probes> {
    let cookies: Vec<u64> = (first_cookie..).map(u64::from).take(points.len()).collect();
    let offsets: Vec<u64> = points.iter().map(|point| point.file_offset).collect();
    let link = loaded.link(file, &offsets, &cookies, scope.pid()).map_err(|e| {
        refused(
            &format!("open {} probes in one link", points.len()),
            Need::LoadPrograms,
            &e,
        )
    })?;
    Ok(Probes {
        kind: LinkKind::Multi,
        links: Links::Multi(link, Arc::clone(loaded)),
    })
}

fn attach_perf(
    kernel: &mut Kernel,
    program: ProgramKind,
    points: &[Point],
    first_cookie: u32,
    scope: Scope,
    file: &Path,
) -> Result<Probes> {
    let name = write(kernel, program, points, first_cookie, scope, Way::Events)?;
    attach_events(
        &*kernel.program_for_events(name)?,
        points,
        first_cookie,
        scope,
        file,
    )
}

/// Attaches a loaded program to points whose sites are written, by a perf event each.
pub(super) fn attach_events(
    program: &events::Program,
    points: &[Point],
    first_cookie: u32,
    scope: Scope,
    file: &Path,
) -> Result<Probes> {
    let cookies = aya::features().bpf_cookie();
    let pid = match scope {
        Scope::Process(pid) => Some(pid.get()),
        Scope::Binary => None,
    };
    let mut probes = Vec::with_capacity(points.len());
    for (cookie, point) in (first_cookie..).zip(points) {
        let cookie = cookies.then_some(u64::from(cookie));
        let probe = program
            .attach(file, point.file_offset, pid, cookie)
            .map_err(|e| {
                refused(
                    &format!("open a probe at offset {:#x}", point.file_offset),
                    Need::OpenProbe,
                    &e,
                )
            })?;
        probes.push(probe);
    }
    Ok(Probes {
        kind: LinkKind::PerfEvents,
        links: Links::PerfEvents(probes),
    })
}

/// Makes sites known by their cookies.
fn write_sites(kernel: &mut Kernel, points: &[Point], first_cookie: u32) -> Result<()> {
    let mut table = maps::sites(&mut kernel.ebpf)?;
    for (cookie, point) in (first_cookie..).zip(points) {
        table
            .set(cookie, maps::Abi(point.site), 0)
            .map_err(maps::context("write", "SITES"))?;
    }
    Ok(())
}

/// Makes sites known by process and address, for kernels without cookies (before 5.15).
fn write_sites_by_ip(
    kernel: &mut Kernel,
    program: ProgramKind,
    points: &[Point],
    scope: Scope,
) -> Result<()> {
    // The programs see PIDs of the initial namespace: with any other every hit would be lost in silence.
    if !in_initial_pid_namespace() && program != ProgramKind::Mark {
        return Err(Error::not_permitted(
            "this kernel has no attach cookies (they came with 5.15), and without them probes can only be told \
             apart from the initial PID namespace; run gmpscope there (on the host, or in a container with \
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

/// The keys that [`attach`] made sites known by, where there are no cookies: to be removed when the probes are
/// gone.
pub fn keys_by_ip(program: ProgramKind, points: &[Point], scope: Scope) -> Vec<SiteKey> {
    if aya::features().bpf_cookie() {
        return Vec::new();
    }
    points
        .iter()
        .map(|point| key_by_ip(program, point, scope))
        .collect()
}

/// Marks are told apart by binary and link-time address, in whatever process.
fn key_by_ip(program: ProgramKind, point: &Point, scope: Scope) -> SiteKey {
    SiteKey {
        ip: point.address,
        tgid: match program {
            ProgramKind::Mark => u32::from(point.site.binary),
            _ => scope.pid(),
        },
        reserved: 0,
    }
}

/// A path to the very file that is open, replaced or deleted though it be.
pub fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
