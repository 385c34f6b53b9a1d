//! Reads a Go program's file: whether it is one, how it was built, and where its functions are.

use super::image::Image;
use super::moduledata::ModuleData;
use super::pclntab::{self, Frame, FuncIndex, PcLnTab};
use super::{Arch, Code, Facts, Function, GoVersion, SymbolTable, refuse, symbols};
use crate::error::{Error, Result};

/// A function that identifies package runtime, whatever else is named like it.
pub(super) const ANCHOR: &str = "runtime.casgstatus";

/// Names of the function that checks a plugin after the dynamic loader has mapped it: package plugin declares it, and
/// package runtime has its body. Source: runtime/plugin.go, `plugin_lastmoduleinit`.
const LOADS_PLUGINS: [&str; 2] = ["plugin.lastmoduleinit", "runtime.plugin_lastmoduleinit"];

/// Most places in a segment that are tried as a pclntab: each costs a search of the file.
const MAX_CANDIDATES: usize = 16;

/// A Go program, read from the bytes of its file.
#[derive(Debug)]
pub struct GoBinary<'d> {
    pub(super) image: Image<'d>,
    pub(super) pclntab: PcLnTab<'d>,
    pub(super) module: ModuleData,
    facts: Facts,
    runtime: Vec<Function>,
}

impl<'d> GoBinary<'d> {
    /// Reads a program. `origin` is its name in messages. The error says what it is instead and what to do.
    pub fn parse(data: &'d [u8], origin: &str) -> Result<Self> {
        let image = Image::parse(data, origin)?;
        let Some(found) = find_pclntab(&image) else {
            return Err(refuse::shared_object(&image, false, origin)
                .unwrap_or_else(|| refuse::without_pclntab(&image, origin)));
        };
        if let Some(refusal) = refuse::shared_object(&image, true, origin) {
            return Err(refusal);
        }
        Self::read(image, found, origin, |image, pclntab, module, runtime| {
            Facts::of(image, pclntab, module, runtime, origin)
        })
    }

    /// Reads a plugin (`-buildmode=plugin`) of a program that Go of this version has built.
    ///
    /// # Errors
    /// It has no function table that can be read, or no function of the runtime.
    pub fn parse_plugin(data: &'d [u8], origin: &str, version: &GoVersion) -> Result<Self> {
        let image = Image::parse(data, origin)?;
        let Some(found) = find_pclntab(&image) else {
            return Err(Error::not_traceable(format!(
                "{origin}: no Go function table was found in it"
            )));
        };
        Self::read(image, found, origin, |image, pclntab, module, runtime| {
            Ok(Facts::of_plugin(image, pclntab, module, runtime, version))
        })
    }

    fn read(
        image: Image<'d>,
        (address, header): (u64, pclntab::Header),
        origin: &str,
        facts: impl FnOnce(&Image<'d>, &PcLnTab<'d>, &ModuleData, &[Function]) -> Result<Facts>,
    ) -> Result<Self> {
        let table = image.bytes_from(address).unwrap_or(&[]);
        let module = ModuleData::find(&image, address, &header)
            .ok_or_else(|| refuse::garbled(origin, "nothing in it describes its module"))?;
        let gofunc = module.gofunc.and_then(|g| image.bytes_from(g)).unwrap_or(&[]);
        let pclntab = PcLnTab::new(table, header, module.text.clone(), gofunc)
            .map_err(|e| Error::not_traceable(format!("{origin}: {e}")))?;
        let &[anchor, ..] = pclntab.functions(ANCHOR).as_slice() else {
            return Err(refuse::garbled(
                origin,
                "the runtime's functions do not have their names",
            ));
        };
        let runtime: Vec<Function> = pclntab
            .compiled_with(anchor)
            .into_iter()
            .filter_map(|f| function(&pclntab, f))
            .collect();
        let facts = facts(&image, &pclntab, &module, &runtime)?;
        Ok(Self {
            image,
            pclntab,
            module,
            facts,
            runtime,
        })
    }

    /// Whether it can load plugins: it has the function of the runtime that package plugin calls when it has loaded one.
    pub fn loads_plugins(&self) -> bool {
        LOADS_PLUGINS
            .iter()
            .any(|name| !self.pclntab.functions(name).is_empty())
    }

    /// How it was built.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Its segments and sections.
    pub fn image(&self) -> &Image<'d> {
        &self.image
    }

    /// Its function table.
    pub fn pclntab(&self) -> &PcLnTab<'d> {
        &self.pclntab
    }

    /// Its moduledata.
    pub fn module(&self) -> &ModuleData {
        &self.module
    }

    /// The name of the function at a link-time address: the innermost inlined one.
    pub fn function_at(&self, pc: u64) -> Option<&'d str> {
        self.pclntab.name_at(pc)
    }

    /// The name of the function at a link-time address, whatever is inlined there.
    pub fn outermost_at(&self, pc: u64) -> Option<&'d str> {
        self.pclntab.name(self.pclntab.function_of(pc)?)
    }

    /// The functions at a link-time address with their files and lines, innermost first, without those that the
    /// compiler made, as in the runtime's own tracebacks. `None` outside of Go's code.
    pub fn frames_at(&self, pc: u64) -> Option<Vec<Frame<'d>>> {
        symbols::frames_at(&self.pclntab, pc)
    }

    /// The function that contains the `go` statement to which `g.gopc` (link-time) returns. `rt0_go`, in assembly,
    /// creates the main goroutine through newproc's ABI0 wrapper, to which its `gopc` returns.
    pub fn creation_site(&self, gopc: u64) -> Option<&'d str> {
        symbols::creation_site(&self.pclntab, gopc)
    }

    /// What is needed to find names in the same file later, without reading all of it again.
    pub fn symbol_table(&self) -> SymbolTable {
        SymbolTable::of(self)
    }
}

impl Code for GoBinary<'_> {
    fn arch(&self) -> Arch {
        self.image.arch
    }

    fn functions(&self, name: &str) -> Vec<Function> {
        self.pclntab
            .functions(name)
            .into_iter()
            .filter_map(|f| function(&self.pclntab, f))
            .collect()
    }

    fn runtime_functions(&self) -> &[Function] {
        &self.runtime
    }

    fn code_of(&self, function: &Function) -> Option<&[u8]> {
        self.image
            .bytes(function.start, function.end.checked_sub(function.start)?)
    }

    fn inlined_into(&self, function: &Function) -> Vec<(String, usize)> {
        let Some(f) = self.pclntab.function_of(function.start) else {
            return Vec::new();
        };
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for name in self.pclntab.inlined_into(f) {
            *counts.entry(name).or_default() += 1;
        }
        counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect()
    }

    fn inlined_at(&self, function: &Function, pc: u64) -> Vec<String> {
        let Some(f) = self.pclntab.function_of(function.start) else {
            return Vec::new();
        };
        self.pclntab
            .inlined_at(f, pc)
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    fn file_offset(&self, address: u64) -> Option<u64> {
        self.image.file_offset(address)
    }
}

fn function(pclntab: &PcLnTab<'_>, f: FuncIndex) -> Option<Function> {
    let (start, end) = pclntab.range(f)?;
    Some(Function {
        name: pclntab.name(f)?.into(),
        start,
        end,
    })
}

/// Link-time address and header of the pclntab, by section if it has one, or else by its magic. Up to Go 1.25 external
/// linkers merge its section of a PIE into another. It may be in the segment of the code, too.
pub(super) fn find_pclntab(image: &Image<'_>) -> Option<(u64, pclntab::Header)> {
    let by_section = [".gopclntab", ".data.rel.ro.gopclntab"]
        .into_iter()
        .find_map(|name| {
            let address = image.section(name)?.address;
            Some((address, pclntab::Header::parse(image.bytes_from(address)?)?))
        });
    by_section.or_else(|| {
        image.data_first().find_map(|s| {
            let mut candidates = pclntab::find(image.segment_bytes(s), s.address).take(MAX_CANDIDATES);
            candidates.find_map(|(at, header)| {
                let address = s.address.checked_add(at as u64)?;
                // The magic alone could be data of a program that reads such tables.
                ModuleData::find(image, address, &header).map(|_| (address, header))
            })
        })
    })
}

/// Whether a program or shared library contains Go: cheaper than [`GoBinary::parse`].
pub fn has_go(data: &[u8]) -> bool {
    Image::parse(data, "").is_ok_and(|image| find_pclntab(&image).is_some())
}
