//! A cache of analysed programs, by file: many processes run the same one, and analysing it takes some milliseconds of
//! CPU time, 70 for a binary of 100 MB.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use crate::{
    binary::{self, GoBinary, SymbolTable},
    plan::Program,
    process::file::{FileState, ProgramFile},
};

/// How many files are remembered at most: some hundred bytes for one that is not Go, else some kilobytes.
const MAX_FILES: usize = 4096;
/// How long a program is kept that no process runs.
const KEPT_NS: u64 = 600_000_000_000;
/// How many names of creation sites are kept for one program at most.
const MAX_NAMES: usize = 4096;

/// The result of analysing a file.
#[derive(Clone, Debug)]
pub enum Analysed {
    /// A Go program that can be watched.
    Go(Arc<AnalysedProgram>),
    /// A Go program that cannot be watched, and why.
    Refused(Arc<str>),
}

/// A program, and the names that were looked up in it since.
#[derive(Debug)]
pub struct AnalysedProgram {
    /// The program.
    pub program: Program,
    /// The state of its file when it was analysed.
    pub file: FileState,
    /// Where its file has its symbols.
    symbols: SymbolTable,
    /// Functions with `go` statements, by the link-time value of `g.gopc`; `None` where it lies in no function.
    names: Mutex<BTreeMap<u64, Option<Arc<str>>>>,
}

/// The cache of analysed programs.
#[derive(Debug, Default)]
pub struct Programs {
    files: Mutex<HashMap<FileState, Entry>>,
}

#[derive(Debug)]
struct Entry {
    file: Arc<KnownFile>,
    used_ns: u64,
}

/// What is known of one file. The first thread that asks reads the file, and the others wait for it.
#[derive(Debug, Default)]
pub struct KnownFile {
    is_go: OnceLock<bool>,
    analysed: OnceLock<Analysed>,
}

impl Programs {
    /// Returns what is known of a file, perhaps nothing yet.
    pub fn file(&self, state: FileState, now_ns: u64) -> Arc<KnownFile> {
        let mut files = lock(&self.files);
        if files.len() >= MAX_FILES && !files.contains_key(&state) {
            // Forgets the half that was not used for longest. Targets keep what they use.
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

    /// Whether no file is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl KnownFile {
    /// Whether it is already known not to be Go.
    pub fn is_known_not_go(&self) -> bool {
        self.is_go.get() == Some(&false)
    }

    /// Whether it has Go in it. Reads the file if that is not known.
    pub fn is_go(&self, file: &ProgramFile) -> bool {
        *self
            .is_go
            .get_or_init(|| file.map().is_ok_and(|bytes| binary::has_go(&bytes)))
    }

    /// Analyses the program, if that was not done before.
    pub fn analyse(&self, file: &ProgramFile) -> Analysed {
        let found = self.analysed.get_or_init(|| {
            let analysed = file.map().and_then(|bytes| {
                let name = file.name().to_string();
                let made = GoBinary::parse(&bytes, &name)
                    .map(|binary| (Program::of(&binary, false), binary.symbol_table()));
                bytes.judge(&name, made)
            });
            match analysed {
                Ok((program, symbols)) => Analysed::Go(Arc::new(AnalysedProgram {
                    program,
                    symbols,
                    file: file.state(),
                    names: Mutex::default(),
                })),
                Err(e) => Analysed::Refused(e.message.into()),
            }
        });
        found.clone()
    }

    /// Whether a watched process runs it.
    fn is_in_use(&self) -> bool {
        matches!(self.analysed.get(), Some(Analysed::Go(known)) if Arc::strong_count(known) > 1)
    }
}

impl AnalysedProgram {
    /// The name of the function with a `go` statement, if it was looked up before: `Some(None)` if there is no
    /// function.
    pub fn name(&self, gopc: u64) -> Option<Option<Arc<str>>> {
        let names = lock(&self.names);
        let is_full = names.len() >= MAX_NAMES;
        names.get(&gopc).cloned().or(is_full.then_some(None))
    }

    /// Looks up names; `file` must be the one that was analysed. Names beyond `MAX_NAMES` are not kept.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn resolve(&self, gopcs: &[u64], file: &ProgramFile) -> crate::error::Result<()> {
        let bytes = file.map()?;
        let symbols = self.symbols.read(&bytes);
        // The file is read before the lock is taken: others may wait for it.
        let sites = gopcs
            .iter()
            .map(|gopc| (*gopc, symbols.creation_site(*gopc).map(Arc::from)));
        let sites: Vec<(u64, Option<Arc<str>>)> =
            bytes.judge(&file.name().to_string(), Ok(sites.collect()))?;
        let mut names = lock(&self.names);
        for (gopc, site) in sites {
            if names.len() >= MAX_NAMES {
                break;
            }
            names.entry(gopc).or_insert(site);
        }
        Ok(())
    }
}

/// Locks, also after a thread has panicked: nothing is left half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::binary::testing::{Build, Go};

    fn open(path: &std::path::Path) -> ProgramFile {
        ProgramFile::open(path).unwrap()
    }

    #[test]
    fn a_file_is_analysed_once_until_it_changes_and_forgotten_when_nobody_runs_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server");
        fs::copy(Go::newest().build(Build::Stripped), &path).unwrap();
        let programs = Programs::default();
        let known = |now_ns: u64| {
            let file = open(&path);
            let entry = programs.file(file.state(), now_ns);
            assert!(entry.is_go(&file));
            match entry.analyse(&file) {
                Analysed::Go(known) => known,
                Analysed::Refused(why) => panic!("{why}"),
            }
        };
        let first = known(1);
        assert!(first.program.reading().plan.exact.is_ok());
        assert!(Arc::ptr_eq(&first, &known(2)));
        assert_eq!(programs.len(), 1);
        // As long as a process runs it, it stays.
        programs.sweep(2 + KEPT_NS);
        assert!(Arc::ptr_eq(&first, &known(3)));
        // The same content, written anew: the sites are looked for anew as well.
        let bytes = fs::read(&path).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, bytes).unwrap();
        assert!(!Arc::ptr_eq(&first, &known(4)));
        assert_eq!(programs.len(), 2);
        drop(first);
        programs.sweep(5 + 2 * KEPT_NS);
        programs.sweep(6 + 4 * KEPT_NS);
        assert!(programs.is_empty());
    }

    #[test]
    fn what_is_not_go_is_remembered_and_memory_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs::default();
        let path = dir.path().join("script");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        let file = open(&path);
        let entry = programs.file(file.state(), 1);
        assert!(!entry.is_known_not_go());
        assert!(!entry.is_go(&file));
        assert!(programs.file(file.state(), 2).is_known_not_go());
        for inode in 0..3 * MAX_FILES as u64 {
            let mut state = file.state();
            state.id.inode = inode;
            let _ = programs.file(state, 10 + inode);
            assert!(programs.len() <= MAX_FILES);
        }
    }

    #[test]
    fn names_are_found_once_and_bounded() {
        let path = Go::newest().build(Build::Stripped);
        let file = open(&path);
        let programs = Programs::default();
        let Analysed::Go(known) = programs.file(file.state(), 1).analyse(&file) else {
            panic!("a Go program");
        };
        let main = {
            let bytes = file.map().unwrap();
            let binary = GoBinary::parse(&bytes, "test").unwrap();
            crate::binary::Code::functions(&binary, "main.main")[0].start
        };
        assert_eq!(known.name(main + 1), None, "not looked up yet");
        known.resolve(&[main + 1, 8], &file).unwrap();
        assert_eq!(known.name(main + 1), Some(Some("main.main".into())));
        assert_eq!(known.name(8), Some(None), "no function");
        let many: Vec<u64> = (0..2 * MAX_NAMES as u64).collect();
        known.resolve(&many, &file).unwrap();
        assert_eq!(
            known.name(u64::MAX),
            Some(None),
            "no room: not looked up again and again"
        );
    }
}
