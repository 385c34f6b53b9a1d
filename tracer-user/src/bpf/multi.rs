//! One uprobe_multi link for all sites of a target: attaches in some 8 ms and detaches in some 35 ms, whatever their
//! number, where perf events take some 80 ms each to detach.
//!
//! aya 0.14 cannot load a program for such a link: the kernel wants `expected_attach_type =
//! BPF_TRACE_UPROBE_MULTI` at load, and aya-obj 0.3 has no section that says so. aya 0.16 can, but asks for
//! Rust 1.98; building it on 1.95 needs a nightly feature switched on for everybody who runs `cargo build`.
//! So these few calls are made here: aya-obj parses and relocates, `bpf(2)` loads and links. Replace this file by aya's
//! own code when the toolchain is at 1.98.

use std::{
    collections::HashSet,
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use aya_obj::{Object, generated::bpf_insn};

use super::{
    raw::{self, Purpose, link_create},
    shielded,
};

/// Whether uprobe_multi links can be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// They work, and their PID filter is for whole processes.
    Works,
    /// The kernel does not have them (they came with 6.6).
    Missing(String),
    /// The kernel has them, but filters by thread in place of process (6.6 before 6.6.35, 6.7, 6.8, 6.9
    /// before 6.9.5): most hits of a Go program would be lost in silence.
    PidFilterBroken,
}

/// A program loaded for uprobe_multi links. Unloaded when dropped and no link is left.
pub struct Program(OwnedFd);

/// Live probes. Dropping it removes them, even if this process is killed meanwhile.
pub struct Link(Option<OwnedFd>);

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            shielded::close(fd);
        }
    }
}

/// Why a program did not load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object file is not one.
    #[error("the embedded eBPF object cannot be read: {0}")]
    Object(String),
    /// The kernel refused the program.
    #[error("the kernel refused program `{name}`: {source}{log}")]
    Refused {
        /// The program's name.
        name: String,
        /// The kernel's errno.
        source: io::Error,
        /// The verifier's last words, on lines of their own; empty if it said nothing.
        log: String,
    },
}

/// A program's relocated instructions, ready to be loaded.
pub struct Code {
    name: String,
    instructions: Vec<bpf_insn>,
    license: CString,
}

impl Code {
    /// Program `name` of `object`, with the maps that `map_fd` finds by name.
    ///
    /// # Errors
    /// [`LoadError::Object`].
    pub fn of<'fd>(
        object: &[u8],
        name: &str,
        map_fd: impl Fn(&str) -> Option<BorrowedFd<'fd>>,
    ) -> Result<Self, LoadError> {
        let object_error = |e: &dyn std::fmt::Display| LoadError::Object(e.to_string());
        let mut parsed = Object::parse(object).map_err(|e| object_error(&e))?;
        let maps = std::mem::take(&mut parsed.maps);
        let with_fds = maps
            .iter()
            .map(|(name, map)| match map_fd(name) {
                Some(fd) => Ok((name.as_str(), fd.as_raw_fd(), map)),
                // Relocating without it would panic inside aya-obj.
                None => Err(LoadError::Object(format!("its map `{name}` was not created"))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let text_sections: HashSet<usize> = parsed.functions.keys().map(|(section, _)| *section).collect();
        parsed
            .relocate_maps(with_fds.into_iter(), &text_sections)
            .map_err(|e| object_error(&e))?;
        parsed
            .relocate_calls(&text_sections)
            .map_err(|e| object_error(&e))?;
        let program = parsed
            .programs
            .get(name)
            .ok_or_else(|| LoadError::Object(format!("it has no program `{name}`")))?;
        let function = parsed
            .functions
            .get(&program.function_key())
            .ok_or_else(|| LoadError::Object(format!("program `{name}` has no code")))?;
        Ok(Self {
            name: name.to_owned(),
            instructions: function.instructions.clone(),
            license: parsed.license.clone(),
        })
    }

    /// How many instructions the verifier processes; see [`raw::verified_instructions`].
    ///
    /// # Errors
    /// [`LoadError::Refused`].
    pub fn verified_instructions(&self, purpose: Purpose) -> Result<u32, LoadError> {
        raw::verified_instructions(&self.instructions, &self.license, purpose).map_err(|e| self.refused(e))
    }

    fn refused(&self, (source, log): (io::Error, String)) -> LoadError {
        LoadError::Refused {
            name: self.name.clone(),
            source,
            log,
        }
    }
}

impl Program {
    /// Loads a program.
    ///
    /// # Errors
    /// [`LoadError::Refused`].
    pub fn load(code: &Code) -> Result<Self, LoadError> {
        raw::load(&code.instructions, &code.license, Purpose::Multi)
            .map(Self)
            .map_err(|e| code.refused(e))
    }

    /// Attaches to all `offsets` (in the file at `path`) of process `pid`; site `i` gets `cookies[i]`. The probes are
    /// removed when the returned link is dropped, or this process ends.
    pub fn link(&self, path: &Path, offsets: &[u64], cookies: &[u64], pid: u32) -> io::Result<Link> {
        link_create(self.0.as_fd(), path, offsets, cookies, pid).map(|fd| Link(Some(fd)))
    }
}

/// Tries out whether uprobe_multi links exist and filter by process.
///
/// Source: libbpf's `probe_uprobe_multi_link` (feature detection), which asks the same two questions.
pub fn support() -> Support {
    let license = c"Dual MIT/GPL";
    // r0 = 0; exit
    let instructions: [bpf_insn; 2] = [instruction(0xb7), instruction(0x95)];
    let program = match raw::load(&instructions, license, Purpose::Multi) {
        Ok(program) => program,
        Err((e, _)) => return Support::Missing(format!("an empty program for it did not load: {e}")),
    };
    // A directory: a kernel that knows the link says EBADF, one that does not, EINVAL.
    match link_create(program.as_fd(), Path::new("/"), &[0], &[0], 0) {
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => {}
        Err(e) => return Support::Missing(format!("linking to `/` gave \"{e}\" and not EBADF")),
        Ok(_) => return Support::Missing("linking to `/` succeeded".to_owned()),
    }
    // No process has PID -1: a correct kernel calls it invalid, the broken ones look for that thread.
    match link_create(program.as_fd(), Path::new("/"), &[0], &[0], u32::MAX) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Support::Works,
        _ => Support::PidFilterBroken,
    }
}

fn instruction(code: u8) -> bpf_insn {
    // SAFETY: bpf_insn is plain data; all zero is a valid value.
    let mut insn: bpf_insn = unsafe { std::mem::zeroed() };
    insn.code = code;
    insn
}
