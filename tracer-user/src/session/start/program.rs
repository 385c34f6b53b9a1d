//! A program whose starts are traced: how it is found and analysed before it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    binary::layout,
    error::{Error, Failure, Result},
    escape::Untrusted,
    model::start::PhaseKind,
    plan::start::{self, StartPlan, Unseparated},
    process::{Target, file::ProgramFile},
    session::attach::prepare,
    sources::starts::Functions,
    stream::{TargetInfo, start::Mark, step::MergedPhase},
};

/// A Go program on disk.
pub struct Program {
    /// Its file, and what was found in it.
    pub target: Target,
    /// The instructions to probe.
    pub plan: StartPlan,
}

impl Program {
    /// Analyses a file.
    ///
    /// # Errors
    /// It is not a Go program, or begin and end of its start cannot be found.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(ProgramFile::open(path)?)
    }

    /// Analyses a file that is open.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn of(file: ProgramFile) -> Result<Self> {
        let name = file.name().to_owned();
        let (target, plan) = Target::of_opened(file, |target, binary| {
            let facts = &target.facts;
            let tags = facts.build_tags();
            let layout = layout::find_or_dwarf(&facts.version, facts.arch, &tags, binary.image().data).ok();
            let program = start::Program {
                entry: binary.image().entry,
                dynamic: binary.image().interpreter.is_some(),
                library: facts.library,
                version: &facts.version,
            };
            StartPlan::of(binary, &program, layout.as_ref().map(|(layout, _)| layout)).map_err(|attempt| {
                Error::not_traceable(format!(
                    "the start of {name} cannot be traced: {}: {}",
                    attempt.what, attempt.outcome
                ))
            })
        })?;
        Ok(Self { target, plan })
    }

    /// Describes it for the capture, without a process.
    pub fn info(&self) -> TargetInfo {
        prepare::info(&self.target, 0)
    }
}

impl Program {
    /// Looks up the names of the functions that begin at these link-time addresses, as far as they are known.
    pub fn functions(&self, addresses: &BTreeSet<u64>) -> BTreeMap<u64, String> {
        let named = self.target.with_symbols(|symbols| {
            let named = addresses
                .iter()
                .filter_map(|address| Some((*address, symbols.outermost_at(*address)?.to_owned())));
            named.collect()
        });
        named
            .inspect_err(|e| log::warn!("functions have no names: {e}"))
            .unwrap_or_default()
    }

    /// Returns the moments of a start that are not seen, each with the reason.
    pub fn missing_probes(&self) -> impl Iterator<Item = String> {
        let moments = self.plan.missing.iter();
        moments.map(|attempt| format!("not seen: {}: {}", attempt.what, attempt.outcome))
    }

    /// Returns the phases that cannot be distinguished, in their order.
    pub fn merged_phases(&self) -> Vec<MergedPhase> {
        merged(&self.plan.unseparated)
    }
}

/// The name that stands for the inits of all packages.
const EVERY_INIT: &str = "init:*";

/// Says into which phase each of these has been merged: the last one before it whose begin was found.
fn merged(unseparated: &[Unseparated]) -> Vec<MergedPhase> {
    let phases = [
        (Mark::OsInit, PhaseKind::OsInit.name()),
        (Mark::SchedInit, PhaseKind::SchedInit.name()),
        (Mark::NewProc, PhaseKind::MainCreated.name()),
        (Mark::MStart, PhaseKind::MainStarted.name()),
        (Mark::RuntimeMain, PhaseKind::RuntimeMain.name()),
        (Mark::InitBegin, EVERY_INIT.to_owned()),
    ];
    let mut into = PhaseKind::Rt0.name();
    let mut merged = Vec::new();
    for (mark, phase) in phases {
        match unseparated.iter().find(|unseparated| unseparated.mark == mark) {
            Some(Unseparated { attempt, .. }) => merged.push(MergedPhase {
                phase: phase.into(),
                into: into.as_str().into(),
                why: format!("{}: {}", attempt.what, attempt.outcome).into(),
            }),
            None => into = phase,
        }
    }
    merged
}

impl Functions for Program {
    fn beginning_at(&self, _binary: u32, addresses: &BTreeSet<u64>) -> BTreeMap<u64, String> {
        self.functions(addresses)
    }
}

/// Finds the file that a shell would execute for a command's name.
///
/// # Errors
/// There is none ([`Failure::NotFound`]), or none that is executable ([`Failure::NotExecutable`]).
pub fn find(command: &OsStr) -> Result<PathBuf> {
    let executable = |path: &Path| {
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let candidates: Vec<PathBuf> = if command.as_bytes().contains(&b'/') {
        vec![PathBuf::from(command)]
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .map(|folder| folder.join(command))
            .collect()
    };
    if let Some(found) = candidates.iter().find(|path| executable(path)) {
        return Ok(found.clone());
    }
    let (failure, why) = match candidates.iter().find(|path| path.exists()) {
        Some(there) => (
            Failure::NotExecutable,
            format!("{} is not an executable file", Untrusted::path(there)),
        ),
        None => (Failure::NotFound, "there is no such command".to_owned()),
    };
    Err(Error {
        failure,
        message: format!("{}: {why}", Untrusted::path(Path::new(command))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Attempt;

    #[test]
    fn a_phase_that_is_not_found_is_part_of_the_last_one_that_is() {
        let unseparated = |mark| Unseparated {
            mark,
            attempt: Attempt {
                what: "the call".into(),
                outcome: "there is none".into(),
            },
        };
        assert_eq!(merged(&[]), []);
        let all = [Mark::InitBegin, Mark::OsInit, Mark::SchedInit].map(unseparated);
        let shown: Vec<String> = merged(&all)
            .iter()
            .map(|merged| format!("{} {} {}", merged.phase, merged.into, merged.why))
            .collect();
        assert_eq!(
            shown,
            [
                "osinit rt0 the call: there is none",
                "schedinit rt0 the call: there is none",
                "init:* runtime_main the call: there is none"
            ]
        );
    }

    #[test]
    fn a_command_is_found_as_a_shell_does() {
        assert!(find(OsStr::new("sh")).unwrap().ends_with("sh"));
        assert_eq!(find(OsStr::new("/bin/sh")).unwrap(), Path::new("/bin/sh"));
        let failure = |name: &str| find(OsStr::new(name)).unwrap_err().failure;
        assert_eq!(failure("no-such-command-anywhere"), Failure::NotFound);
        assert_eq!(failure("/etc/passwd"), Failure::NotExecutable);
        assert_eq!(failure("/nonexistent/x"), Failure::NotFound);
    }
}
