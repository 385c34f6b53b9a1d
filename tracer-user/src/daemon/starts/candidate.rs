//! Finds the files whose starts are to be timed.

use std::path::Path;

use crate::{
    daemon::{config::Config, discovery::fits, targets::Targets},
    error::Result,
    escape::Untrusted,
    process::{file::FileState, threads},
    session::start::program::Program,
};

/// A file whose starts are to be timed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How it is shown.
    pub exe: Untrusted,
    /// The path by which it is opened.
    pub path: String,
    /// The state of the file.
    pub state: FileState,
    /// Whether the whole binary is to be probed.
    pub whole: bool,
}

/// The files that `init.include` names: those at a fixed path, and those that targets run.
pub fn find(config: &Config, targets: &mut Targets) -> Vec<Candidate> {
    let whole = config.init.whole_binary;
    let mut found = Vec::new();
    for path in &config.init.include {
        let is_fixed = !path.contains(['*', '?']);
        if is_fixed && let Ok(state) = FileState::known_at(path) {
            found.push(Candidate {
                exe: path.as_str().into(),
                path: path.clone(),
                state,
                whole,
            });
        }
    }
    for (pid, target) in targets.iter_mut() {
        let exe = &target.view().name.exe;
        if let Some(watched) = target.watching()
            && is_included(config, exe)
        {
            found.push(Candidate {
                exe: exe.clone(),
                path: format!("{}/exe", threads::folder(pid)),
                state: watched.known.file,
                whole,
            });
        }
    }
    found
}

/// Whether `init.include` names a binary.
pub fn is_included(config: &Config, exe: &Untrusted) -> bool {
    let mut patterns = config.init.include.iter();
    patterns.any(|pattern| fits(pattern, exe.raw()))
}

/// Analyses a candidate, which takes some milliseconds.
///
/// # Errors
/// It is not a Go program any more, or its starts cannot be timed.
pub fn analyse(candidate: &Candidate) -> Result<Box<Program>> {
    Program::open(Path::new(&candidate.path)).map(Box::new)
}
