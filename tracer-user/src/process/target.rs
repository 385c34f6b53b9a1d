//! Opens a [`Target`] by PID or path.

use std::collections::BTreeMap;
use std::path::Path;

use super::Process;
use super::family::{go_descendant, is_loader};
use super::file::ProgramFile;
use super::maps::Mapped;
use crate::binary::{self, Facts, Frame, GoBinary, SymbolTable, Symbols};
use crate::error::{Error, Result};
use crate::escape::Untrusted;

/// Most shared libraries that are searched for Go.
const MAX_LIBRARIES: usize = 256;

/// A Go program, running or not. It borrows nothing from the program's file, which is unmapped after the analysis; the
/// file itself stays open.
#[derive(Debug)]
pub struct Target {
    /// How it was built.
    pub facts: Facts,
    /// Its file.
    pub file: ProgramFile,
    /// The process that runs it; `None` for a file.
    pub process: Option<Process>,
    /// Run-time minus link-time address (wrapping); 0 for a file.
    pub load_bias: u64,
    /// Where the names are in its file.
    symbols: SymbolTable,
}

impl Target {
    /// Opens a running program and passes it to `analyse` while its file is mapped: to find sites, layouts and
    /// variables. It is proven that the process has mapped this very file.
    ///
    /// # Errors
    /// The program is not Go, or cannot be analysed. If the process executed another program meanwhile, or ended, the
    /// error says that instead.
    pub fn of_process<T>(
        pid: i32,
        analyse: impl FnOnce(&Target, &GoBinary<'_>) -> Result<T>,
    ) -> Result<(Self, T)> {
        let process = Process::open(pid)?;
        let file = process.exe().map_err(|e| process.explain(e, None))?;
        let mapping = file.map()?;
        let origin = format!("process {pid} ({}), {}", process.comm(), file.name());
        let parsed = GoBinary::parse(&mapping, &origin)
            .map_err(|e| instead(&process, &file, &mapping, e))
            .and_then(|binary| Ok((process.load_bias(&file, binary.image().segments())?, binary)));
        let (load_bias, binary) = mapping
            .judge(&origin, parsed)
            .map_err(|e| process.explain(e, Some(file.id())))?;
        let target = Self {
            facts: binary.facts().clone(),
            file,
            process: Some(process),
            load_bias,
            symbols: binary.symbol_table(),
        };
        let seen = analyse(&target, &binary);
        let seen = mapping.judge(&origin, seen).map_err(|e| target.explain(e))?;
        Ok((target, seen))
    }

    /// Explains `error`, which occurred when the target was analysed or attached to; see
    /// [`Life::explain`](super::Life::explain).
    pub fn explain(&self, error: Error) -> Error {
        match &self.process {
            Some(process) => process.explain(error, Some(self.file.id())),
            None => error,
        }
    }

    /// Checks that the process still runs the program that was analysed, so that what was read of its memory belongs
    /// to that program.
    ///
    /// # Errors
    /// The process has executed another program, or ended.
    pub fn unchanged(&self) -> Result<()> {
        match &self.process {
            Some(process) => process.unchanged(self.file.id()),
            None => Ok(()),
        }
    }

    /// Opens a program by its path, and passes it to `analyse` as [`Self::of_process`] does.
    pub fn of_file<T>(
        path: &Path,
        analyse: impl FnOnce(&Target, &GoBinary<'_>) -> Result<T>,
    ) -> Result<(Self, T)> {
        Self::of_opened(ProgramFile::open(path)?, analyse)
    }

    /// Like [`Self::of_file`], for an open file.
    pub fn of_opened<T>(
        file: ProgramFile,
        analyse: impl FnOnce(&Target, &GoBinary<'_>) -> Result<T>,
    ) -> Result<(Self, T)> {
        let mapping = file.map()?;
        let name = file.name().to_string();
        let made = GoBinary::parse(&mapping, &name).and_then(|binary| {
            let facts = binary.facts().clone();
            let target = Self {
                facts,
                file,
                process: None,
                load_bias: 0,
                symbols: binary.symbol_table(),
            };
            let seen = analyse(&target, &binary)?;
            Ok((target, seen))
        });
        mapping.judge(&name, made)
    }

    /// Maps the file again and passes its names to `analyse`. The cost does not grow with the file.
    pub fn with_symbols<T>(&self, analyse: impl FnOnce(&Symbols<'_>) -> T) -> Result<T> {
        with_symbols(&self.file, &self.symbols, analyse)
    }

    /// Maps the file again, reads all of it and passes it to `analyse`. For names [`Self::with_symbols`] is enough.
    pub fn with_binary<T>(&self, analyse: impl FnOnce(&GoBinary<'_>) -> T) -> Result<T> {
        let mapping = self.file.map()?;
        let name = self.file.name().to_string();
        let made = GoBinary::parse(&mapping, &name).map(|binary| analyse(&binary));
        mapping.judge(&name, made)
    }

    /// Names of the functions that contain the `go` statements to which these values of `g.gopc` return, by value.
    /// Values outside of the program's functions are left out.
    pub fn creation_sites(&self, gopcs: impl IntoIterator<Item = u64>) -> Result<BTreeMap<u64, Untrusted>> {
        creation_sites(&self.file, &self.symbols, self.load_bias, gopcs)
    }

    /// The functions at each of these return addresses, innermost first, by address, without those that the compiler
    /// made. Addresses outside of Go's code are left out.
    pub fn frames(&self, pcs: impl IntoIterator<Item = u64>) -> Result<BTreeMap<u64, Vec<Frame>>> {
        frames(&self.file, &self.symbols, self.load_bias, pcs)
    }

    /// Maps a link-time address to an address in the process.
    pub fn in_process(&self, address: u64) -> u64 {
        address.wrapping_add(self.load_bias)
    }

    /// Maps an address in the process to a link-time address.
    pub fn link_time(&self, address: u64) -> u64 {
        address.wrapping_sub(self.load_bias)
    }

    /// Whether the process still runs the program that was analysed: it has neither ended nor executed another
    /// program. True for a file.
    pub fn still_runs(&self) -> Result<bool> {
        match &self.process {
            Some(p) if p.has_ended() => Ok(false),
            Some(p) => Ok(!p.has_execed() && p.exe_id()? == self.file.id()),
            None => Ok(true),
        }
    }
}

/// See [`Target::with_symbols`].
fn with_symbols<T>(
    file: &ProgramFile,
    table: &SymbolTable,
    analyse: impl FnOnce(&Symbols<'_>) -> T,
) -> Result<T> {
    let mapping = file.map()?;
    let made = analyse(&table.read(&mapping));
    mapping.judge(&file.name().to_string(), Ok(made))
}

/// See [`Target::creation_sites`]; `bias` is run-time minus link-time address.
pub(super) fn creation_sites(
    file: &ProgramFile,
    table: &SymbolTable,
    bias: u64,
    gopcs: impl IntoIterator<Item = u64>,
) -> Result<BTreeMap<u64, Untrusted>> {
    with_symbols(file, table, |symbols| {
        gopcs
            .into_iter()
            .filter_map(|pc| Some((pc, symbols.creation_site(pc.wrapping_sub(bias))?.into())))
            .collect()
    })
}

/// See [`Target::frames`]; `bias` is run-time minus link-time address.
pub(super) fn frames(
    file: &ProgramFile,
    table: &SymbolTable,
    bias: u64,
    pcs: impl IntoIterator<Item = u64>,
) -> Result<BTreeMap<u64, Vec<Frame>>> {
    with_symbols(file, table, |symbols| {
        let frames = pcs.into_iter().filter_map(|pc| {
            let frames = symbols.frames_at(pc.wrapping_sub(bias).checked_sub(1)?)?;
            Some((pc, frames.iter().map(Frame::from).collect()))
        });
        frames.collect()
    })
}

/// The better error for a process whose program cannot be traced: it has loaded something that is Go, or has started a
/// process that runs it.
fn instead(process: &Process, exe: &ProgramFile, program: &[u8], error: Error) -> Error {
    let who = format!("process {} ({})", process.pid(), process.comm());
    if let Some(library) = go_library(process, exe) {
        let library = Untrusted::path(&library.path);
        return Error::not_traceable(match is_loader(Path::new(exe.name().raw())) {
            true => format!(
                "{who}: was started by executing the dynamic loader ({}) with {library} as its argument, so that the \
                 kernel knows of no other program in it: start {library} itself",
                exe.name()
            ),
            false => format!(
                "{who}: its program {} is not Go, but it has loaded a shared library that is ({library}): Go in a \
                 library (-buildmode=c-shared or plugin) cannot be traced yet",
                exe.name()
            ),
        });
    }
    let child = (!binary::has_go(program))
        .then(|| go_descendant(process.pid().unsigned_abs()))
        .flatten();
    match child {
        Some(child) => Error {
            message: format!(
                "{}; it has started one, process {} ({}): use -p {}, or gmpscope run --follow to trace what it starts",
                error.message, child.pid, child.exe, child.pid
            ),
            ..error
        },
        None => error,
    }
}

/// The first library of a process that contains Go.
fn go_library(process: &Process, exe: &ProgramFile) -> Option<Mapped> {
    let libraries = process.libraries(exe.id()).ok()?;
    libraries.into_iter().take(MAX_LIBRARIES).find(|mapped| {
        let opened = process.open_mapped(mapped).and_then(|f| f.map());
        opened.is_ok_and(|bytes| binary::has_go(&bytes) && !bytes.was_cut())
    })
}
