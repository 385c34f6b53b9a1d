//! A Go program as a file: how it was built, and where its functions, structs and variables are.
//!
//! Nothing here opens a file or reads a process: all parsing is over `&[u8]`, bounded, and treats every byte as hostile.

mod buildinfo;
mod buildversion;
pub mod code;
mod facts;
mod frame;
pub mod globals;
mod go_binary;
pub mod image;
pub mod layout;
pub mod moduledata;
pub mod pclntab;
mod refuse;
mod symbols;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod version;

pub use buildinfo::BuildInfo;
pub use facts::{BuildMode, Facts};
pub use frame::Frame;
pub use go_binary::{GoBinary, has_go};
pub use symbols::{SymbolTable, Symbols};

use serde::Serialize;

use crate::escape::Untrusted;

/// The processor that a Go binary is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Arch {
    /// x86_64.
    #[serde(rename = "amd64")]
    Amd64,
    /// aarch64.
    #[serde(rename = "arm64")]
    Arm64,
}

impl Arch {
    /// Go's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
        }
    }

    /// The processor that gmpscope itself was built for; `None` where Go binaries of that cannot be traced.
    pub fn of_this_machine() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }
}

/// A parsed version such as `go1.25.5 X:greenteagc`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GoVersion {
    /// The string in the binary, for display.
    pub raw: String,
    /// 25 for 1.25.5.
    pub minor: u32,
    /// 5 for 1.25.5; 0 if there is none. Release candidates and betas have `vendor_or_prerelease` set.
    pub patch: u32,
    /// Anything besides the numbers that is not an experiment: `rc1`, `-custom`, `devel …`. The layout table has no
    /// such version.
    pub vendor_or_prerelease: Option<String>,
    /// `GOEXPERIMENT`s, as in `X:a,b`; sorted.
    pub experiments: Vec<String>,
}

/// A contiguous function of the binary, in link-time addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name in pclntab.
    pub name: Untrusted,
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

/// The parts of a binary that instruction decoding needs. Addresses are link-time.
pub trait Code {
    /// The processor.
    fn arch(&self) -> Arch;
    /// All functions of exactly this name (pclntab may have an ABI0 wrapper and the body under one name).
    fn functions(&self, name: &str) -> Vec<Function>;
    /// All functions that were compiled as part of package runtime, in address order.
    fn runtime_functions(&self) -> &[Function];
    /// The machine code of a function, from the file.
    fn code_of(&self, function: &Function) -> Option<&[u8]>;
    /// Names of the functions that are inlined into `function` (from its inline tree), with the number of times.
    fn inlined_into(&self, function: &Function) -> Vec<(String, usize)>;
    /// Names of the inlined functions that the instruction at `pc` of `function` belongs to, innermost first, without
    /// `function` itself.
    fn inlined_at(&self, _function: &Function, _pc: u64) -> Vec<String> {
        Vec::new()
    }
    /// Offset in the file of a link-time address that lies in a file-backed segment.
    fn file_offset(&self, address: u64) -> Option<u64>;
}

/// Link-time addresses of the runtime's variables, as far as they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// `runtime.sched`.
    pub sched: Option<u64>,
    /// `runtime.sched.timeToRun`.
    pub time_to_run: Option<u64>,
    /// `runtime.allp`.
    pub allp: Option<u64>,
    /// `runtime.allgs`.
    pub allgs: Option<u64>,
    /// `runtime.allm`.
    pub allm: Option<u64>,
    /// `runtime.gomaxprocs`.
    pub gomaxprocs: Option<u64>,
}
