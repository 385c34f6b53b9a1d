//! Programs that a command and all that descends from it execute: each is looked at and probed while its process waits
//! at the gate.

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    time::{Duration, Instant},
};

use tracer_ebpf::start::binary;

use super::program::Program;
use crate::{
    binary::{Arch, has_go},
    bpf::attach::path_of,
    error::{Error, Result},
    escape::Untrusted,
    process::file::{FileId, ProgramFile},
    sources::starts::{
        Binary, StartSource,
        gate::{Question, Questions},
    },
    stream::TargetInfo,
};

/// No more binaries are probed at once than this.
const MOST_PROBED: usize = 128;
/// A binary that was used so recently may be about to start once more.
const IN_USE: Duration = Duration::from_millis(500);
/// Go programs that cannot be traced are named up to so many.
const MOST_NOTES: usize = 10;

/// The programs of a command's tree.
pub struct Tree {
    path: PathBuf,
    questions: Option<Questions>,
    /// Those that are probed, by number.
    probed: BTreeMap<u32, Probed>,
    /// How many were.
    found: u32,
    notes: Vec<String>,
    more_notes: u64,
}

struct Probed {
    program: Program,
    file: FileId,
    used: Instant,
}

/// A program that was found to be one of Go's, and is probed.
pub struct Found {
    /// Its number.
    pub number: u32,
    /// What is known of it.
    pub info: TargetInfo,
    /// Whether the dynamic loader runs first.
    pub dynamic: bool,
}

impl Tree {
    /// Of the command at this path.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            questions: None,
            probed: BTreeMap::new(),
            found: 0,
            notes: Vec::new(),
            more_notes: 0,
        }
    }

    /// Where the gate asks.
    pub fn listen(&mut self, questions: Questions) {
        self.questions = Some(questions);
    }

    /// What the gate asks next; never, if nothing is traced.
    pub async fn asked(&mut self) -> Question {
        match &mut self.questions {
            Some(questions) => match questions.recv().await {
                Some(question) => question,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Nobody asks any more.
    pub fn deafen(&mut self) {
        self.questions = None;
    }

    /// The program of this number, while it is probed.
    pub fn program(&self, number: u32) -> Option<&Program> {
        self.probed.get(&number).map(|probed| &probed.program)
    }

    /// What is known of the command, if it is not seen to run a program that is traced.
    pub fn command(&self) -> TargetInfo {
        // It may be anything, and no Go program at all.
        TargetInfo {
            pid: 0,
            exe: Untrusted::path(&self.path),
            go_version: Untrusted::default(),
            arch: Arch::of_this_machine()
                .map_or(std::env::consts::ARCH, Arch::name)
                .into(),
            build_mode: Untrusted::default(),
            stripped: false,
            cgo: None,
            pgo: None,
            gomaxprocs: None,
            cgroup_cpu_limit: None,
        }
    }

    /// What could not be traced, and why.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        if self.more_notes > 0 {
            notes.push(format!("{} more Go programs are not traced", self.more_notes));
        }
        notes
    }

    /// A start of this binary was seen.
    pub fn used(&mut self, number: u32) {
        if let Some(probed) = self.probed.get_mut(&number) {
            probed.used = Instant::now();
        }
    }

    /// Answers a question: looks at the file, and probes it if it is a Go program. `runs` tells whether a start of a
    /// binary has not ended yet.
    pub fn answer(
        &mut self,
        question: Question,
        source: &mut StartSource,
        runs: impl Fn(u32) -> bool,
    ) -> Option<Found> {
        let Question {
            id,
            id_of_file,
            file,
            followed,
        } = question;
        // Written over: probes would lie in the middle of instructions. Their removal is waited for.
        let before = self.probed.iter().find(|(_, probed)| probed.file == id_of_file);
        if let Some(number) = before.map(|(number, _)| *number) {
            self.probed.remove(&number);
            source.unprobe(number).unwrap_or_else(|e| log::warn!("{e}"));
        }
        let answer = |source: &StartSource, binary: u32, linker, forget: bool| {
            if let Some(gate) = source.gate() {
                gate.answer(id, binary, linker);
                if forget {
                    gate.forget(id_of_file);
                }
            }
        };
        if !followed {
            answer(source, binary::NOT_TRACED, None, true);
            return None;
        }
        match self.look(file, id_of_file, source, runs) {
            Ok(Some(found)) => {
                let slot = source.slot_of(found.number).unwrap_or(binary::NOT_TRACED);
                answer(source, slot, source.linker_of(found.number), false);
                Some(found)
            }
            Ok(None) => {
                answer(source, binary::NOT_TRACED, None, false);
                None
            }
            Err(e) => {
                answer(source, binary::UNREADY, None, false);
                self.note(e.to_string());
                None
            }
        }
    }

    /// The Go program in a file, probed; `None` if it is another.
    fn look(
        &mut self,
        file: File,
        id: FileId,
        source: &mut StartSource,
        runs: impl Fn(u32) -> bool,
    ) -> Result<Option<Found>> {
        let path = path_of(&file);
        // Its name as the command has it; gone already it may be.
        let name = std::fs::read_link(&path).unwrap_or_else(|_| path.clone());
        let file = ProgramFile::from_file(file, path, Untrusted::path(&name))?;
        if !file.map().is_ok_and(|bytes| has_go(&bytes)) {
            return Ok(None);
        }
        let program = Program::of(file)?;
        if Some(program.target.facts.arch) != Arch::of_this_machine() {
            // An emulator runs it.
            return Ok(None);
        }
        self.make_room(source, runs)?;
        let number = self.found;
        let binary = Binary {
            file: program.target.file.file(),
            plan: &program.plan,
        };
        source.probe(number, binary).map_err(|e| Error {
            message: format!("starts of {} are not traced: {e}", program.target.file.name()),
            ..e
        })?;
        let found = Found {
            number,
            info: program.info(),
            dynamic: program.plan.dynamic,
        };
        self.found = self.found.saturating_add(1);
        let used = Instant::now();
        self.probed.insert(
            number,
            Probed {
                program,
                file: id,
                used,
            },
        );
        Ok(Some(found))
    }

    /// Forgets the binary that was not used for the longest time, if there are too many.
    fn make_room(&mut self, source: &mut StartSource, runs: impl Fn(u32) -> bool) -> Result<()> {
        if self.probed.len() < MOST_PROBED {
            return Ok(());
        }
        let idle = self
            .probed
            .iter()
            .filter(|(number, probed)| probed.used.elapsed() > IN_USE && !runs(**number))
            .min_by_key(|(_, probed)| probed.used)
            .map(|(number, probed)| (*number, probed.file));
        let Some((number, file)) = idle else {
            return Err(Error::failed(format!(
                "{MOST_PROBED} binaries start at once: others are not traced"
            )));
        };
        if let Some(gate) = source.gate() {
            gate.forget(file);
        }
        self.probed.remove(&number);
        source.unprobe_soon(number)
    }

    fn note(&mut self, note: String) {
        match self.notes.len() < MOST_NOTES {
            true => self.notes.push(note),
            false => self.more_notes += 1,
        }
    }
}
