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
    plan::start::{self, StartPlan},
    process::{Target, file::ProgramFile},
    session::attach::prepare,
    sources::starts::Functions,
    stream::TargetInfo,
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

    /// Returns the parts of a start that are not measured, each with the reason.
    pub fn missing_probes(&self) -> impl Iterator<Item = String> {
        let phases = self.plan.unseparated.iter();
        let phases = phases.map(|attempt| format!("not told apart: {}: {}", attempt.what, attempt.outcome));
        let moments = self.plan.missing.iter();
        phases.chain(moments.map(|attempt| format!("not seen: {}: {}", attempt.what, attempt.outcome)))
    }
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
