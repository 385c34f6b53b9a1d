//! Programs that were analysed, by their files: many processes run the same one, and analysing takes some
//! milliseconds of CPU time, 70 for a binary of 100 MB.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use crate::{
    plan::Program,
    target::{
        binary::{self, GoBinary},
        file::{FileState, ProgramFile},
    },
};

/// Files that are remembered at most; some hundred bytes each where it is not Go, else some kilobytes.
const MAX_FILES: usize = 4096;
/// How long a program is kept that no process runs.
const KEPT_NS: u64 = 600_000_000_000;
/// Names of creation sites that are kept for one program at most.
const MAX_NAMES: usize = 4096;

/// What was found in a file.
#[derive(Clone, Debug)]
pub enum Analysed {
    /// A Go program that can be watched.
    Go(Arc<Known>),
    /// A Go program that cannot, and why.
    Refused(Arc<str>),
}

/// A program, and what was asked about it since.
#[derive(Debug)]
pub struct Known {
    /// The program.
    pub program: Program,
    /// The state of the file that it was found in.
    pub file: FileState,
    /// Functions with `go` statements, by the link-time value of `g.gopc`; `None` for what lies in no function.
    names: Mutex<BTreeMap<u64, Option<Arc<str>>>>,
}

/// The memory of all files that were looked into.
#[derive(Debug, Default)]
pub struct Programs {
    files: Mutex<HashMap<FileState, Entry>>,
}

#[derive(Debug)]
struct Entry {
    file: Arc<File>,
    used_ns: u64,
}

/// What is known of one file. Whoever asks first finds out, and the others wait for it.
#[derive(Debug, Default)]
pub struct File {
    is_go: OnceLock<bool>,
    analysed: OnceLock<Analysed>,
}

impl Programs {
    /// What is known of a file.
    pub fn file(&self, state: FileState, now_ns: u64) -> Arc<File> {
        let mut files = lock(&self.files);
        if files.len() >= MAX_FILES && !files.contains_key(&state) {
            // The half that was asked for longest ago; what processes run stays with them.
            let mut ages: Vec<u64> = files.values().map(|entry| entry.used_ns).collect();
            let (_, median, _) = ages.select_nth_unstable(MAX_FILES / 2);
            let median = *median;
            files.retain(|_, entry| entry.used_ns > median);
        }
        let entry = files.entry(state).or_insert_with(|| Entry {
            file: Arc::default(),
            used_ns: now_ns,
        });
        entry.used_ns = now_ns;
        Arc::clone(&entry.file)
    }

    /// Forgets programs that no process has run for a while.
    pub fn sweep(&self, now_ns: u64) {
        lock(&self.files).retain(|_, entry| {
            if entry.file.is_in_use() {
                entry.used_ns = now_ns;
            }
            now_ns.saturating_sub(entry.used_ns) < KEPT_NS
        });
    }

    /// How many files are remembered.
    pub fn len(&self) -> usize {
        lock(&self.files).len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl File {
    /// Whether it is known not to be Go, without looking.
    pub fn is_known_not_go(&self) -> bool {
        self.is_go.get() == Some(&false)
    }

    /// Whether it has Go in it. Looks into the file where that is not known.
    pub fn is_go(&self, file: &ProgramFile) -> bool {
        *self
            .is_go
            .get_or_init(|| file.map().is_ok_and(|bytes| binary::has_go(&bytes)))
    }

    /// What it is in full. Decodes the program where that was not done before.
    pub fn analyse(&self, file: &ProgramFile) -> Analysed {
        let found = self.analysed.get_or_init(|| {
            let analysed = file.map().and_then(|bytes| {
                let binary = GoBinary::parse(&bytes, file.name())?;
                Ok(Program::of(&binary, false))
            });
            match analysed {
                Ok(program) => Analysed::Go(Arc::new(Known {
                    program,
                    file: file.state(),
                    names: Mutex::default(),
                })),
                Err(e) => Analysed::Refused(e.message.into()),
            }
        });
        found.clone()
    }

    /// Whether a process that is watched runs it.
    fn is_in_use(&self) -> bool {
        matches!(self.analysed.get(), Some(Analysed::Go(known)) if Arc::strong_count(known) > 1)
    }
}

impl Known {
    /// The name of the function with a `go` statement, if it was asked for before: `Some(None)` where none is there.
    pub fn name(&self, gopc: u64) -> Option<Option<Arc<str>>> {
        let names = lock(&self.names);
        let is_full = names.len() >= MAX_NAMES;
        names.get(&gopc).cloned().or(is_full.then_some(None))
    }

    /// Names what was not asked for before; `file` must be the one that was analysed. What is more than can be kept
    /// has no name.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn learn(&self, gopcs: &[u64], file: &ProgramFile) -> crate::error::Result<()> {
        let bytes = file.map()?;
        let binary = GoBinary::parse(&bytes, file.name())?;
        let mut names = lock(&self.names);
        for gopc in gopcs {
            if names.len() >= MAX_NAMES {
                break;
            }
            names
                .entry(*gopc)
                .or_insert_with(|| binary.creation_site(*gopc).map(Arc::from));
        }
        Ok(())
    }
}

/// Nothing is left half done behind these locks: a thread that panicked under one has no say.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
