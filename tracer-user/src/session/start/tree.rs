//! The programs that a command and its descendants execute: each is analysed and probed while its process waits at the
//! gate.

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
    stream::{TargetInfo, step::MergedPhase},
};

/// Most binaries that are probed at once.
const MOST_PROBED: usize = 128;
/// How long after its last start a binary counts as in use: it may be about to start again.
const IN_USE: Duration = Duration::from_millis(500);
/// Most notes about Go programs that cannot be traced; others are only counted.
const MOST_NOTES: usize = 10;

/// The programs of a command's tree.
pub struct Tree {
    path: PathBuf,
    questions: Option<Questions>,
    /// The programs that are probed, by number.
    probed: BTreeMap<u32, Probed>,
    /// How many were probed so far: the next number.
    found: u32,
    notes: Vec<String>,
    more_notes: u64,
}

struct Probed {
    program: Program,
    file: FileId,
    used: Instant,
}

/// A Go program that was found, and is probed.
pub struct Found {
    /// Its number.
    pub number: u32,
    /// Its description for the capture.
    pub info: TargetInfo,
    /// Whether the dynamic loader runs first.
    pub dynamic: bool,
    /// The phases that cannot be distinguished in it.
    pub merged: Vec<MergedPhase>,
}

impl Tree {
    /// Returns the tree of the command at this path, without any program.
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

    /// Takes the channel of the gate's questions.
    pub fn listen(&mut self, questions: Questions) {
        self.questions = Some(questions);
    }

    /// Waits for the gate's next question; for ever if nothing is traced.
    pub async fn next_question(&mut self) -> Question {
        match &mut self.questions {
            Some(questions) => match questions.recv().await {
                Some(question) => question,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Closes the channel: no more questions are answered.
    pub fn stop_listening(&mut self) {
        self.questions = None;
    }

    /// Returns the program of this number, while it is probed.
    pub fn program(&self, number: u32) -> Option<&Program> {
        self.probed.get(&number).map(|probed| &probed.program)
    }

    /// Describes the command, before it is seen to run a Go program.
    pub fn command(&self) -> TargetInfo {
        // It may be anything, and no Go program at all.
        TargetInfo {
            pid: 0,
            exe: Untrusted::path(&self.path),
            go_version: Untrusted::default(),
            layout: None,
            arch: Arch::of_this_machine()
                .map_or(std::env::consts::ARCH, Arch::name)
                .into(),
            build_mode: Untrusted::default(),
            stripped: false,
            cgo: None,
            pgo: None,
            gomaxprocs: None,
            cgroup_cpu_limit: None,
            clock_offset_ns: None,
        }
    }

    /// Returns what could not be traced, each with the reason.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        if self.more_notes > 0 {
            notes.push(format!("{} more Go programs are not traced", self.more_notes));
        }
        notes
    }

    /// Notes that a start of this binary was seen.
    pub fn used(&mut self, number: u32) {
        if let Some(probed) = self.probed.get_mut(&number) {
            probed.used = Instant::now();
        }
    }

    /// Answers a question: probes the file if it is a Go program. `runs` is whether a start of a binary has not ended
    /// yet.
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
        // The file was overwritten: old probes would lie within instructions. Waits until they are removed.
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
        match self.probe_if_go(file, id_of_file, source, runs) {
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

    /// Probes the program in a file; `None` if it is not a Go program of this machine.
    fn probe_if_go(
        &mut self,
        file: File,
        id: FileId,
        source: &mut StartSource,
        runs: impl Fn(u32) -> bool,
    ) -> Result<Option<Found>> {
        let path = path_of(&file);
        // Its name as the command used it; the file may be deleted already.
        let name = std::fs::read_link(&path).unwrap_or_else(|_| path.clone());
        let file = ProgramFile::from_file(file, path, Untrusted::path(&name))?;
        if !file.map().is_ok_and(|bytes| has_go(&bytes)) {
            return Ok(None);
        }
        let program = Program::of(file)?;
        if Some(program.target.facts.arch) != Arch::of_this_machine() {
            // It is run by an emulator.
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
            merged: program.merged_phases(),
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

    /// Removes the probes of the least recently used binary, if there are too many.
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
