//! How a Go program was built, as far as its file shows.

use std::collections::BTreeMap;

use serde::Serialize;

use super::buildinfo::BuildInfo;
use super::buildversion;
use super::image::Image;
use super::moduledata::ModuleData;
use super::refuse;
use crate::binary::pclntab::PcLnTab;
use crate::binary::{Arch, Function, GoVersion};
use crate::error::{Error, Result};
use crate::escape::Untrusted;

/// Minor version of the oldest Go whose runtime gmpscope knows.
const OLDEST: u32 = 19;

/// `-buildmode` of a program that can be traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildMode {
    /// Linked at a fixed address.
    Exe,
    /// Position-independent.
    Pie,
}

impl BuildMode {
    /// The name that text and JSON use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exe => "exe",
            Self::Pie => "pie",
        }
    }
}

/// Facts about a Go program from its file. Borrows nothing from the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The processor.
    pub arch: Arch,
    /// The Go version that built it.
    pub version: GoVersion,
    /// Import path of its main package, if it has build information.
    pub main_path: Option<String>,
    /// Its build settings (`-buildmode`, `CGO_ENABLED`, `-ldflags`, …), if it has build information.
    pub settings: BTreeMap<String, String>,
    /// Fixed address or position-independent.
    pub build_mode: BuildMode,
    /// Whether a C linker linked it, so that it starts in C code.
    pub external_linking: bool,
    /// Whether it needs the dynamic loader.
    pub dynamic: bool,
    /// Whether it uses cgo, so that C can call into it.
    pub cgo: bool,
    /// Whether Go is a library in a C program (`-buildmode=c-archive`): the C program's `main` runs, and Go's never.
    pub library: bool,
    /// Whether it has no symbol table.
    pub stripped: bool,
    /// Whether it was built with a profile (`-pgo`, `default.pgo`), by its build settings or by what is inlined.
    pub pgo: bool,
    /// Link-time address of the first instruction.
    pub entry: u64,
    /// Link-time addresses of Go's code.
    pub text: (u64, u64),
}

impl Facts {
    /// The `-tags` of the build, if its build settings have them.
    pub fn build_tags(&self) -> Vec<&str> {
        let tags = self.settings.get("-tags").map_or("", String::as_str);
        tags.split(',').filter(|tag| !tag.is_empty()).collect()
    }

    pub(super) fn of(
        image: &Image<'_>,
        pclntab: &PcLnTab<'_>,
        module: &ModuleData,
        runtime: &[Function],
        origin: &str,
    ) -> Result<Self> {
        let info = BuildInfo::find(image).unwrap_or_default();
        let version = GoVersion::parse(&info.version).or_else(|| buildversion::find(image, module)).ok_or_else(|| {
            let why = if info.version.is_empty() {
                "it has no build information, and no variable of it holds one".to_owned()
            } else {
                format!("its build information says {:?}", Untrusted::from(info.version.as_str()))
            };
            Error::not_traceable(format!(
                "{origin}: is a Go program, but its Go version cannot be determined ({why}): build it with an unchanged \
                 release of Go"
            ))
        })?;
        if version.minor < OLDEST {
            return Err(refuse::too_old(origin, &version.raw.as_str().into()));
        }
        Ok(Self::with_version(image, pclntab, module, runtime, info, version))
    }

    /// The facts of a plugin, which has no build information of its own: it is only loaded into a program whose packages
    /// are the same, `version` being that program's.
    pub(super) fn of_plugin(
        image: &Image<'_>,
        pclntab: &PcLnTab<'_>,
        module: &ModuleData,
        runtime: &[Function],
        version: &GoVersion,
    ) -> Self {
        let info = BuildInfo::find(image).unwrap_or_default();
        Self::with_version(image, pclntab, module, runtime, info, version.clone())
    }

    fn with_version(
        image: &Image<'_>,
        pclntab: &PcLnTab<'_>,
        module: &ModuleData,
        runtime: &[Function],
        info: BuildInfo,
        version: GoVersion,
    ) -> Self {
        let text = (module.text.text(), module.text.etext());
        let inlines_casgstatus = || {
            runtime.iter().any(|f| {
                pclntab
                    .function_of(f.start)
                    .is_some_and(|f| pclntab.inlined_into(f).contains(&super::go_binary::ANCHOR))
            })
        };
        let library = match info.settings.get("-buildmode").map(String::as_str) {
            Some("c-archive" | "c-shared") => true,
            Some(_) => false,
            // The linker keeps the entry point of the build mode only (cmd/link/internal/ld/lib.go, `libinit`).
            None => !pclntab
                .functions(&format!("_rt0_{}_linux_lib", image.arch.name()))
                .is_empty(),
        };
        Self {
            arch: image.arch,
            build_mode: if image.position_independent {
                BuildMode::Pie
            } else {
                BuildMode::Exe
            },
            external_linking: !(text.0..text.1).contains(&image.entry),
            dynamic: image.interpreter.is_some(),
            cgo: !pclntab.functions("runtime.cgocallback").is_empty(),
            library,
            stripped: image.section(".symtab").is_none(),
            pgo: info.settings.contains_key("-pgo") || inlines_casgstatus(),
            entry: image.entry,
            text,
            version,
            main_path: info.path,
            settings: info.settings,
        }
    }
}
