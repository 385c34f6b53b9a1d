//! The sites of `full`: every change of a goroutine's status that matters to the scheduler, and the functions through
//! which Ps, Ms and the world change.

use super::changes::Changes;
use super::sites::{self, Decoded};
use super::{Attempt, Site, SiteKind, entry, exact, whole};
use crate::binary::code::Flow;
use crate::binary::code::flow::Analysis;
use crate::binary::layout::Layout;
use crate::binary::{Arch, Code};
use tracer_ebpf::full::{What, status};
use tracer_ebpf::gp_in;

/// The sites, and what they do not show.
#[derive(Clone, Debug)]
pub struct Full {
    /// Changes of goroutines' status, and the entries of functions.
    pub sites: Vec<Site>,
    /// Sites that system calls hit, twice each: only with `--syscalls`.
    pub syscalls: Vec<Site>,
    /// Transitions that this binary does not let us see; the model infers what it can.
    pub missing: Vec<Attempt>,
}

impl Full {
    /// Whether the end of each GC assist is seen.
    pub fn sees_assists(&self) -> bool {
        let ends_assist = |site: &Site| {
            matches!(site.kind, SiteKind::StatusCall | SiteKind::SwappedConstants)
                && site.statuses_in == (status::WAITING, status::RUNNING)
        };
        self.sites.iter().any(ends_assist)
    }
}

/// A function whose call is a transition.
struct Entry {
    /// The names that it has had; the first that the binary has is used.
    names: &'static [&'static str],
    /// How many arguments must still be in registers.
    arguments: u8,
    what: What,
    /// Go versions (minor) that have it.
    minors: std::ops::RangeInclusive<u32>,
}

const ANY: std::ops::RangeInclusive<u32> = 0..=u32::MAX;

/// Source: proc.go, coro.go and mgc.go of each version.
const ENTRIES: [Entry; 15] = [
    Entry {
        names: &["runtime.coroswitch_m"],
        arguments: 1,
        what: What::Coroutine,
        minors: 23..=u32::MAX,
    },
    Entry {
        names: &["runtime.acquirepNoTrace", "runtime.acquirep"],
        arguments: 1,
        what: What::ProcessorAcquired,
        minors: ANY,
    },
    Entry {
        names: &["runtime.releasepNoTrace", "runtime.releasep"],
        arguments: 0,
        what: What::ProcessorReleased,
        minors: ANY,
    },
    Entry {
        names: &["runtime.handoffp"],
        arguments: 1,
        what: What::ProcessorHandedOff,
        minors: ANY,
    },
    Entry {
        names: &["runtime.startlockedm"],
        arguments: 1,
        what: What::GoroutineLocked,
        minors: ANY,
    },
    Entry {
        names: &["runtime.procresize"],
        arguments: 1,
        what: What::ProcessorsResized,
        minors: ANY,
    },
    Entry {
        names: &["runtime.mstart1"],
        arguments: 0,
        what: What::MachineStarted,
        minors: ANY,
    },
    Entry {
        names: &["runtime.mexit"],
        arguments: 0,
        what: What::MachineEnded,
        minors: ANY,
    },
    Entry {
        names: &["runtime.stopm"],
        arguments: 0,
        what: What::MachineParked,
        minors: ANY,
    },
    Entry {
        names: &["runtime.startm"],
        arguments: 2,
        what: What::MachineWanted,
        minors: ANY,
    },
    Entry {
        names: &["runtime.newm"],
        arguments: 2,
        what: What::MachineCreated,
        minors: ANY,
    },
    Entry {
        names: &["runtime.gcStart"],
        arguments: 0,
        what: What::GcStart,
        minors: ANY,
    },
    Entry {
        names: &["runtime.gcMarkTermination"],
        arguments: 0,
        what: What::GcMarkTermination,
        minors: ANY,
    },
    Entry {
        names: &["runtime.stopTheWorldWithSema"],
        arguments: 1,
        what: What::WorldStops,
        minors: ANY,
    },
    Entry {
        names: &[STARTS_WORLD],
        arguments: 0,
        what: What::WorldStarts,
        minors: ANY,
    },
];

/// Those of them that only run on the stack of g0, so that the branch of their stack check may be probed. In Go 1.19
/// no other instruction of the entry of handoffp can be. Source: their callers in proc.go, Go 1.19 to 1.27; the only one
/// of startlockedm is schedule.
const ON_G0: [&str; 2] = ["runtime.handoffp", "runtime.startlockedm"];
/// The function that starts the world again, and the one that it calls once the Ps are given out: just before, from Go
/// 1.22 on, it takes the end of the pause. Source: proc.go, Go 1.19 to 1.27.
const STARTS_WORLD: &str = "runtime.startTheWorldWithSema";
const AFTER_START: &str = "runtime.wakep";
/// First minor version of Go whose `stopTheWorldWithSema` has a reason as argument.
const STW_REASON_SINCE: u32 = 21;
/// First minor version of Go in which system calls change the status without casgstatus.
const SYSCALLS_SWAP_SINCE: u32 = 26;
/// The functions in which they do, with the old and the new status.
const SYSCALLS: [(&str, (u8, u8)); 2] = [
    ("runtime.reentersyscall", (status::RUNNING, status::SYSCALL)),
    ("runtime.exitsyscall", (status::SYSCALL, status::RUNNING)),
];
/// The function that makes its first argument Preempted without casgstatus.
const PREEMPTED: &str = "runtime.casGToPreemptScan";

/// All sites of `full` in a binary of Go 1.`minor`.
///
/// # Errors
/// A change of goroutines' status cannot be seen, or the layout of the g is not known.
pub fn full(code: &dyn Code, layout: Option<&Layout>, minor: u32, force: bool) -> Result<Full, Vec<Attempt>> {
    in_module(code, layout, minor, force, Module::Program)
}

/// The sites of `full` in a plugin. What it has no copy of is not called from it: the program's own is.
///
/// # Errors
/// As [`full`].
pub(super) fn in_plugin(
    code: &dyn Code,
    layout: Option<&Layout>,
    minor: u32,
    force: bool,
) -> Result<Full, Vec<Attempt>> {
    in_module(code, layout, minor, force, Module::Plugin)
}

/// What a binary is to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Module {
    /// Its program, which has every function that is ever called.
    Program,
    /// A plugin, which has copies of those that it calls.
    Plugin,
}

fn in_module(
    code: &dyn Code,
    layout: Option<&Layout>,
    minor: u32,
    force: bool,
    module: Module,
) -> Result<Full, Vec<Attempt>> {
    if layout.is_none() {
        return Err(vec![Attempt {
            what: "the layout of the runtime's structs".into(),
            outcome: "it is not known for this binary, and without it the goroutines that there are already \
                      cannot be read"
                .into(),
        }]);
    }
    let all = exact::of_changes(code, layout, Changes::All { minor }, force)?;
    let (mut syscalls, mut sites): (Vec<Site>, Vec<Site>) = all.into_iter().partition(|site| site.of_syscall);
    let mut missing = Vec::new();
    // The linker leaves out a function that is never called: then nothing is missed.
    let is_absent = |name: &str| code.functions(name).is_empty();
    let may_be_absent = |what: What| module == Module::Plugin || what == What::Coroutine;
    let unused =
        |wanted: &&Entry| may_be_absent(wanted.what) && wanted.names.iter().all(|name| is_absent(name));
    let is_there = |name: &str| module == Module::Program || !is_absent(name);
    let there = ENTRIES.iter().filter(|wanted| wanted.minors.contains(&minor));
    for wanted in there.filter(|wanted| !unused(wanted)) {
        match entries(code, wanted, minor, force) {
            Ok(found) => sites.extend(found),
            Err(attempt) => missing.push(attempt),
        }
    }
    match world_started(code, force) {
        Ok(found) => sites.extend(found),
        Err(attempt) => missing.push(attempt),
    }
    if is_there(PREEMPTED) {
        let change = (status::RUNNING, status::PREEMPTED);
        match status_entry(code, PREEMPTED, 1, change, force) {
            Ok(found) => sites.extend(found),
            Err(attempt) => missing.push(attempt),
        }
    }
    if minor >= SYSCALLS_SWAP_SINCE {
        for (name, change) in SYSCALLS.into_iter().filter(|(name, _)| is_there(name)) {
            match status_entry(code, name, 0, change, force) {
                Ok(found) => syscalls.extend(found.into_iter().map(|mut site| {
                    site.gp_in = gp_in::CURRENT;
                    site
                })),
                Err(attempt) => missing.push(attempt),
            }
        }
    }
    missing.extend(inlined(code, sites.iter().chain(&syscalls)));
    Ok(Full {
        sites,
        syscalls,
        missing,
    })
}

fn entries(code: &dyn Code, wanted: &Entry, minor: u32, force: bool) -> Result<Vec<Site>, Attempt> {
    let arguments = match wanted.what {
        What::WorldStops if minor < STW_REASON_SINCE => 0,
        _ => wanted.arguments,
    };
    let found = wanted.names.iter().find(|name| !code.functions(name).is_empty());
    let name = found.ok_or_else(|| Attempt {
        what: wanted.names.join(" or "),
        outcome: "the binary has no such function".into(),
    })?;
    let mut sites = entry_sites(code, name, arguments, SiteKind::Entry, force)?;
    for site in &mut sites {
        site.what = Some(wanted.what);
        // Makes the program read the argument, if there is one.
        site.statuses_in = (0, u8::from(arguments > 0));
    }
    Ok(sites)
}

/// Where the world has been started: the call of [`AFTER_START`] in [`STARTS_WORLD`].
fn world_started(code: &dyn Code, force: bool) -> Result<Vec<Site>, Attempt> {
    let called = code.functions(AFTER_START);
    let functions = code.functions(STARTS_WORLD);
    let mut found = Vec::new();
    for function in &functions {
        let decoded = Decoded::new(code, function)?;
        let analysis = Analysis::new(code.arch(), &decoded.insns, |_| None);
        for (index, insn) in decoded.insns.iter().enumerate() {
            let calls = matches!(insn.flow, Flow::Call(Some(to)) if called.iter().any(|c| c.start == to));
            // Constants after the code of an arm64 function may look like instructions.
            if !calls || (code.arch() == Arch::Arm64 && !analysis.is_reached(index)) {
                continue;
            }
            let mut site = sites::site(code, function, insn, SiteKind::Entry, force)?;
            site.what = Some(What::WorldStarted);
            found.push(site);
        }
    }
    // Without the function, its own entry is reported as missing.
    if found.is_empty() && !functions.is_empty() {
        return Err(Attempt {
            what: "the end of a stop-the-world pause".into(),
            outcome: format!("{STARTS_WORLD} has no call of {AFTER_START}"),
        });
    }
    Ok(found)
}

fn status_entry(
    code: &dyn Code,
    name: &str,
    arguments: u8,
    change: (u8, u8),
    force: bool,
) -> Result<Vec<Site>, Attempt> {
    let mut sites = entry_sites(code, name, arguments, SiteKind::StatusEntry, force)?;
    for site in &mut sites {
        site.statuses_in = change;
    }
    Ok(sites)
}

fn entry_sites(
    code: &dyn Code,
    name: &str,
    arguments: u8,
    kind: SiteKind,
    force: bool,
) -> Result<Vec<Site>, Attempt> {
    let functions = code.functions(name);
    if functions.is_empty() {
        return Err(Attempt {
            what: name.to_owned(),
            outcome: "the binary has no such function".into(),
        });
    }
    functions
        .iter()
        .map(|function| match ON_G0.contains(&name) {
            true => entry::site_on_g0(code, function, arguments, kind),
            false => entry::site(code, function, arguments, kind, force),
        })
        .collect()
}

/// Probed functions that the compiler has inlined somewhere because of a profile: calls there are not seen.
fn inlined<'s>(code: &dyn Code, sites: impl Iterator<Item = &'s Site>) -> Vec<Attempt> {
    let probed: Vec<&str> = sites
        .filter(|site| matches!(site.kind, SiteKind::Entry | SiteKind::StatusEntry))
        .filter(|site| !whole::is_whole(site))
        .map(|site| site.function.raw())
        .collect();
    let mut attempts = Vec::new();
    for function in code.runtime_functions() {
        for (name, _) in code.inlined_into(function) {
            // releasep is releasepNoTrace plus tracing.
            if probed.contains(&name.as_str()) {
                attempts.push(Attempt {
                    what: name,
                    outcome: format!("it is inlined into {}, and not seen there", function.name),
                });
            }
        }
    }
    attempts
}
