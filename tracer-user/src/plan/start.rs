//! The sites of a start: the instructions that mark the moments between `execve` and `main.main`.
//!
//! Except for the last four, every start executes all of them, once in a process (those of a package's init once per
//! package). The first are `call` instructions of `rt0_go`: the kernel emulates them, and each is the end of the
//! previous step. Sources: asm_amd64.s and asm_arm64.s (`rt0_go`), proc.go (`schedinit`, `main`, `doInit1`; up to Go
//! 1.20 `doInit`), Go 1.19 to 1.27.

use tracer_ebpf::{gp_in, start::Mark};

use super::sites::{Decoded, site};
use super::{Attempt, Emulation, Site, SiteKind, emulation, entry};
use crate::binary::code::flow::{self, Analysis};
use crate::binary::code::{self, Flow, Insn, Mem, Op, Shape};
use crate::binary::layout::Layout;
use crate::binary::{Code, Function, GoVersion};

/// One probed moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkSite {
    /// The moment.
    pub mark: Mark,
    /// The instruction.
    pub site: Site,
}

/// The sites of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartPlan {
    /// All that were proven, in the order of their marks.
    pub sites: Vec<MarkSite>,
    /// Phases whose begin was not found, and why: they are part of the previous phase.
    pub unseparated: Vec<Unseparated>,
    /// Other moments that were not found.
    pub missing: Vec<Attempt>,
    /// Link-time address of the ELF entry.
    pub entry: u64,
    /// Whether the dynamic loader runs first.
    pub dynamic: bool,
    /// Whether an init task contains its dependencies (up to Go 1.20).
    pub old_tasks: bool,
}

/// A phase whose begin was not found in a binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseparated {
    /// The mark that begins the phase. [`Mark::InitBegin`] stands for the inits of all packages.
    pub mark: Mark,
    /// What was tried.
    pub attempt: Attempt,
}

/// What is known of a program's file besides its code.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Link-time address of the ELF entry.
    pub entry: u64,
    /// Whether it needs the dynamic loader.
    pub dynamic: bool,
    /// Whether Go is a library in it, so that `main.main` is never called.
    pub library: bool,
    /// The Go version that built it.
    pub version: &'a GoVersion,
}

/// The last minor version of Go whose init tasks contain their dependencies.
const LAST_WITH_DEPENDENCIES: u32 = 20;

impl StartPlan {
    /// Decodes the code that every start executes.
    ///
    /// # Errors
    /// The begin or the end of the start was not found: the ELF entry, or `main.main`; in a library the end of the inits.
    pub fn of(code: &dyn Code, program: &Program<'_>, layout: Option<&Layout>) -> Result<Self, Attempt> {
        let old_tasks = program.version.minor <= LAST_WITH_DEPENDENCIES;
        let mut plan = Self {
            sites: Vec::new(),
            unseparated: Vec::new(),
            missing: Vec::new(),
            entry: program.entry,
            dynamic: program.dynamic,
            old_tasks,
        };
        plan.add(Mark::Entry, first_of_entry(code, program.entry)?);
        for (mark, callee) in RT0_CALLS {
            let found = call(code, "runtime.rt0_go", callee).map(|(_, decoded, index)| (decoded, index));
            plan.take_phase(mark, found.and_then(|(d, i)| at(code, &d, i)));
        }
        plan.take_phase(Mark::RuntimeMain, beginning(code, "runtime.main"));
        let inits = inits(
            code,
            if old_tasks {
                "runtime.doInit"
            } else {
                "runtime.doInit1"
            },
        );
        match inits {
            Ok((begin, end)) => {
                plan.add(Mark::InitBegin, begin);
                plan.add(Mark::InitEnd, end);
            }
            Err(attempt) => plan.unseparated.push(Unseparated {
                mark: Mark::InitBegin,
                attempt,
            }),
        }
        if program.library {
            plan.add(Mark::LibraryReady, end_of_library(code)?);
        } else {
            plan.add(Mark::MainMain, beginning(code, "main.main")?);
        }
        for (begin, end, callee) in SCHEDINIT_CALLS {
            match span(code, callee) {
                Ok((from, to)) => {
                    plan.add(begin, from);
                    plan.add(end, to);
                }
                Err(attempt) => plan.missing.push(attempt),
            }
        }
        plan.take(Mark::Sysmon, beginning(code, "runtime.sysmon"));
        plan.take(Mark::GcStart, beginning(code, "runtime.gcBgMarkStartWorkers"));
        plan.take(
            Mark::StopTheWorld,
            beginning(code, "runtime.stopTheWorldWithSema"),
        );
        plan.take(Mark::GoStatement, argument_of(code, "runtime.newproc"));
        // Only if the offset of a P's id is known.
        if let Some(layout) = layout {
            for name in ["runtime.acquirep", "runtime.acquirepNoTrace"] {
                if !code.functions(name).is_empty() {
                    let found = argument_of(code, name).map(|site| Site {
                        slot: layout.p.id,
                        ..site
                    });
                    plan.take(Mark::PBound, found);
                }
            }
        }
        Ok(plan)
    }

    /// The sites that may be probed in every process of the binary, since they are executed once.
    pub fn once(&self) -> Vec<MarkSite> {
        self.sites
            .iter()
            .filter(|site| site.mark.is_once())
            .cloned()
            .collect()
    }

    fn add(&mut self, mark: Mark, site: Site) {
        self.sites.push(MarkSite { mark, site });
    }

    fn take_phase(&mut self, mark: Mark, found: Result<Site, Attempt>) {
        match found {
            Ok(site) => self.add(mark, site),
            Err(attempt) => self.unseparated.push(Unseparated { mark, attempt }),
        }
    }

    fn take(&mut self, mark: Mark, found: Result<Site, Attempt>) {
        match found {
            Ok(site) => self.add(mark, site),
            Err(attempt) => self.missing.push(attempt),
        }
    }
}

/// The probed calls in `rt0_go`, in their order.
const RT0_CALLS: [(Mark, &str); 4] = [
    (Mark::OsInit, "runtime.osinit"),
    (Mark::SchedInit, "runtime.schedinit"),
    (Mark::NewProc, "runtime.newproc"),
    (Mark::MStart, "runtime.mstart"),
];

/// Calls in `schedinit` that are timed separately.
const SCHEDINIT_CALLS: [(Mark, Mark, &str); 3] = [
    (Mark::MallocInitBegin, Mark::MallocInitEnd, "runtime.mallocinit"),
    (Mark::GcInitBegin, Mark::GcInitEnd, "runtime.gcinit"),
    (Mark::ProcResizeBegin, Mark::ProcResizeEnd, "runtime.procresize"),
];

/// Longest instruction of amd64, in bytes.
const LONGEST_INSTRUCTION: u64 = 15;

/// The very first instruction of the program, which may be in the C library's start-up code: an instruction begins
/// there by definition.
fn first_of_entry(code: &dyn Code, address: u64) -> Result<Site, Attempt> {
    let decoded = (1..=LONGEST_INSTRUCTION).find_map(|length| {
        let function = Function {
            name: "ELF entry".into(),
            start: address,
            end: address.checked_add(length)?,
        };
        Decoded::new(code, &function)
            .ok()
            .filter(|decoded| decoded.insns.len() == 1)
    });
    match decoded {
        Some(decoded) => at(code, &decoded, 0),
        None => Err(Attempt {
            what: "the ELF entry".into(),
            outcome: format!("no instruction is at {address:#x}"),
        }),
    }
}

/// The site at an instruction that is executed once: it may be single-stepped.
fn at(code: &dyn Code, decoded: &Decoded, index: usize) -> Result<Site, Attempt> {
    let insn = decoded.insns.get(index).ok_or_else(|| Attempt {
        what: decoded.function.name.to_string(),
        outcome: "it ends before the instruction that was looked for".into(),
    })?;
    site(code, &decoded.function, insn, SiteKind::Mark, true)
}

/// The beginning of a function: the first emulated instruction before its first branch, or else the very first
/// instruction. It may be reached twice if the stack has to grow: the first time counts.
fn beginning(code: &dyn Code, name: &str) -> Result<Site, Attempt> {
    let function = only(code, name)?;
    let decoded = Decoded::new(code, &function)?;
    let straight = decoded
        .insns
        .iter()
        .position(|insn| insn.flow != Flow::Next)
        .map_or(decoded.insns.len(), |last| last + 1);
    let emulated = decoded
        .insns
        .iter()
        .take(straight)
        .position(|insn| emulation::emulation(insn) == Emulation::Emulated);
    at(code, &decoded, emulated.unwrap_or(0))
}

/// The site of a function that is called often, with its first argument. Only an emulated instruction is accepted.
fn argument_of(code: &dyn Code, name: &str) -> Result<Site, Attempt> {
    entry::site(code, &only(code, name)?, 1, SiteKind::Mark, false)
}

/// The function of this name that is not a wrapper: the function table may also have a wrapper of the same name, which
/// jumps to it or calls it.
fn only(code: &dyn Code, name: &str) -> Result<Function, Attempt> {
    let all = code.functions(name);
    let wraps = |function: &Function| {
        let others = all.iter().filter(|other| other.start != function.start);
        let bytes = code.code_of(function).unwrap_or_default();
        others
            .into_iter()
            .any(|other| code::may_reach(code.arch(), bytes, function.start, other.start))
    };
    let mut bodies = all.iter().filter(|function| !wraps(function));
    match (bodies.next(), bodies.next()) {
        (Some(function), None) => Ok(function.clone()),
        (None, _) => Err(Attempt {
            what: name.into(),
            outcome: "the binary has no such function".into(),
        }),
        (Some(_), Some(_)) => Err(Attempt {
            what: name.into(),
            outcome: "the binary has several functions of that name".into(),
        }),
    }
}

/// The only `call` of `callee` in `caller`: the address called, the decoded caller, and the index of the call.
fn call(code: &dyn Code, caller: &str, callee: &str) -> Result<(u64, Decoded, usize), Attempt> {
    let fail = |outcome: String| Attempt {
        what: format!("the call of {callee} in {caller}"),
        outcome,
    };
    let targets: Vec<u64> = code.functions(callee).iter().map(|f| f.start).collect();
    let mut found = None;
    for function in code.functions(caller) {
        let decoded = Decoded::new(code, &function)?;
        let calls = decoded
            .insns
            .iter()
            .enumerate()
            .filter_map(|(index, insn)| match insn.flow {
                Flow::Call(Some(target)) if targets.contains(&target) => Some((target, index)),
                _ => None,
            });
        let calls: Vec<(u64, usize)> = calls.collect();
        match calls.as_slice() {
            [] => {}
            [(target, index)] if found.is_none() => found = Some((*target, *index, decoded)),
            _ => return Err(fail("there are several".into())),
        }
    }
    let (target, index, decoded) = found.ok_or_else(|| fail("there is none".into()))?;
    Ok((target, decoded, index))
}

/// The moment in `runtime.main` at which every init was run: it closes `main_init_done` (from Go 1.27 on
/// `mainInitDoneChan`), for which calls from C into Go wait, and closes no other channel.
fn end_of_library(code: &dyn Code) -> Result<Site, Attempt> {
    let (_, decoded, index) = call(code, "runtime.main", "runtime.closechan")?;
    at(code, &decoded, index)
}

/// The call of `callee` in `schedinit`, and the instruction after it.
fn span(code: &dyn Code, callee: &str) -> Result<(Site, Site), Attempt> {
    let (_, decoded, index) = call(code, "runtime.schedinit", callee)?;
    let begin = at(code, &decoded, index)?;
    let next = decoded.insns.get(index + 1).map(|insn| insn.shape);
    if next == Some(Shape::Refused) {
        return Err(Attempt {
            what: format!("the instruction after the call of {callee}"),
            outcome: "the kernel refuses to probe it".into(),
        });
    }
    Ok((begin, at(code, &decoded, index + 1)?))
}

/// Begin and end of a package's init, at the instructions where `GODEBUG=inittrace=1` takes them:
///
/// ```go
/// if inittrace.active { start = nanotime(); … }   // <- this branch
/// … for each of its functions: f()
/// if inittrace.active { end := nanotime() … }     // <- and this one
/// ```
/// They come after the test whether the task was done already, so that a finished one causes no hit. In Go 1.19's
/// recursive `doInit` both come after the dependencies. The task itself is the function's argument, which is spilled
/// before the first test.
fn inits(code: &dyn Code, name: &str) -> Result<(Site, Site), Attempt> {
    let fail = |outcome: &str| Attempt {
        what: format!("the tests of inittrace.active in {name}"),
        outcome: outcome.into(),
    };
    let decoded = Decoded::new(code, &only(code, name)?)?;
    let analysis = Analysis::new(code.arch(), &decoded.insns, |_| None);
    let mut tests: Vec<(u64, usize)> = Vec::new();
    analysis.visit(|index, insn, registers| {
        let reads = matches!(insn.op, Op::CompareMem { value: 0 } | Op::Load { .. });
        if insn.bytes == 1
            && reads
            && let Some(address) = flow::address(insn, registers)
        {
            tests.push((address, index));
        }
    });
    tests.sort_by_key(|(_, index)| *index);
    let pairs = tests.iter().filter_map(|(address, index)| {
        let mut same = tests.iter().filter(|(other, at)| other == address && at > index);
        match (same.next(), same.next()) {
            (Some((_, second)), None) => Some((*index, *second)),
            _ => None,
        }
    });
    let pairs: Vec<(usize, usize)> = pairs.collect();
    let [(first, second)] = pairs.as_slice() else {
        return Err(fail("there are not two of one variable"));
    };
    let runs = decoded.insns[*first..*second]
        .iter()
        .any(|insn| insn.flow == Flow::Call(None));
    if !runs {
        return Err(fail("no function is called between them"));
    }
    let branch = |from: usize| {
        let near = decoded.insns.iter().enumerate().skip(from + 1).take(3);
        near.take_while(|(_, insn)| matches!(insn.flow, Flow::Next | Flow::Branch(_)))
            .find(|(_, insn)| matches!(insn.flow, Flow::Branch(_)))
            .map(|(index, _)| index)
    };
    let (Some(begin), Some(end)) = (branch(*first), branch(*second)) else {
        return Err(fail("no branch follows"));
    };
    let slot = spilled_argument(code, &decoded.insns[..begin])
        .ok_or_else(|| fail("the task is not kept on the stack before"))?;
    let mut begin = at(code, &decoded, begin)?;
    (begin.gp_in, begin.slot) = (gp_in::STACK_SLOT, slot);
    Ok((begin, at(code, &decoded, end)?))
}

/// The stack slot into which the first argument is stored while its register still holds it.
fn spilled_argument(code: &dyn Code, insns: &[Insn]) -> Option<u32> {
    let argument = code::argument(code.arch(), 0);
    for insn in insns {
        if let (Op::Store { src }, Some(mem)) = (insn.op, insn.mem)
            && src == argument
            && insn.bytes == 8
            && let Mem {
                base: Some(base),
                disp,
                indexed: false,
            } = mem
            && base == code::stack_pointer(code.arch())
        {
            return u32::try_from(disp).ok();
        }
        if insn.writes & (1 << argument) != 0 {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_come_often_is_not_probed_in_every_process() {
        let often: Vec<Mark> = Mark::ALL.into_iter().filter(|mark| !mark.is_once()).collect();
        assert_eq!(
            often,
            [Mark::PBound, Mark::GcStart, Mark::StopTheWorld, Mark::GoStatement]
        );
    }
}
