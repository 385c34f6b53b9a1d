//! Errors for programs that cannot be traced, as specific as their bytes allow.

use memchr::memmem;

use super::buildinfo::BuildInfo;
use super::image::Image;
use crate::error::Error;
use crate::escape::Untrusted;

/// The error for a program in which no function table of Go 1.18 or later was found.
pub(super) fn without_pclntab(image: &Image<'_>, origin: &str) -> Error {
    let info = BuildInfo::find(image);
    let version = info.as_ref().map_or("version unknown", |i| i.version.as_str());
    if is_upx(image) {
        return Error::not_traceable(format!(
            "{origin}: is packed with UPX: its code is unpacked into anonymous memory, where no probe can be placed; \
             unpack it (upx -d) and run that"
        ));
    }
    if is_gccgo(image) {
        return Error::not_traceable(format!(
            "{origin}: was built by gccgo, whose runtime is another one: build it with the Go project's own \
             toolchain"
        ));
    }
    if names_symbol(image, b"tinygo_") {
        return Error::not_traceable(format!(
            "{origin}: was built by TinyGo, whose runtime is another one: build it with the Go project's own \
             toolchain"
        ));
    }
    if has_old_pclntab(image) {
        return too_old(origin, &Untrusted::from(version));
    }
    if info.is_some() || has_go_note(image) || image.section(".gopclntab").is_some() {
        return garbled(origin, "its function table is in no known format");
    }
    Error::not_traceable(format!(
        "{origin}: is not a Go program: no Go function table in it; name a program built by Go, or the PID of one"
    ))
}

/// The error for a program of a Go version that is older than those that gmpscope knows.
pub(super) fn too_old(origin: &str, version: &Untrusted) -> Error {
    Error::not_traceable(format!(
        "{origin}: was built by a Go that is too old ({version}): gmpscope traces Go 1.19 and later; build it with a \
         newer Go"
    ))
}

/// The error for a Go program whose names or tables were made unreadable.
pub(super) fn garbled(origin: &str, why: &str) -> Error {
    Error::not_traceable(format!(
        "{origin}: looks like a Go program that was obfuscated (garble) or built by a changed toolchain ({why}): \
         build it without the obfuscator to trace it"
    ))
}

/// The error for a shared object, with or without Go in it; `None` for an executable.
pub(super) fn shared_object(image: &Image<'_>, is_go: bool, origin: &str) -> Option<Error> {
    let mode = BuildInfo::find(image).and_then(|i| i.settings.get("-buildmode").cloned());
    let library = match mode.as_deref() {
        Some("c-shared" | "shared" | "plugin") => true,
        Some("exe" | "pie") => false,
        _ => image.position_independent && image.interpreter.is_none() && !image.marked_pie,
    };
    library.then(|| {
        let what = match (mode, is_go) {
            (Some(mode), _) => format!(
                "is a shared library with Go in it (-buildmode={})",
                Untrusted::from(mode)
            ),
            (None, true) => "is a shared library with Go in it (c-shared or plugin)".to_owned(),
            (None, false) => "is a shared library, not a Go program".to_owned(),
        };
        Error::not_traceable(format!(
            "{origin}: {what}: gmpscope traces programs whose main executable is Go; name one, or its PID"
        ))
    })
}

/// Whether UPX packed it: UPX writes its mark after the program headers and again at the end of the file.
fn is_upx(image: &Image<'_>) -> bool {
    let head = image.data.get(..image.data.len().min(1024)).unwrap_or(&[]);
    let tail = image
        .data
        .get(image.data.len().saturating_sub(64)..)
        .unwrap_or(&[]);
    memmem::find(head, b"UPX!").is_some() || memmem::find(tail, b"UPX!").is_some()
}

/// Whether gccgo built it: it keeps export data in a section, and links libgo dynamically by default.
fn is_gccgo(image: &Image<'_>) -> bool {
    image.section(".go_export").is_some() || image.needed.iter().any(|n| n.starts_with(b"libgo.so"))
}

/// Whether the name of a symbol contains `what`; never in a stripped program.
fn names_symbol(image: &Image<'_>, what: &[u8]) -> bool {
    image
        .section(".strtab")
        .is_some_and(|s| memmem::find(s.data, what).is_some())
}

/// Whether there is an old pclntab: 0xfffffffa is Go 1.16 and 1.17, 0xfffffffb is 1.2 to 1.15.
fn has_old_pclntab(image: &Image<'_>) -> bool {
    [[0xfa, 0xff, 0xff, 0xff, 0, 0], [0xfb, 0xff, 0xff, 0xff, 0, 0]]
        .iter()
        .any(|magic| {
            image.segments().iter().filter(|s| !s.executable).any(|s| {
                let bytes = image.segment_bytes(s);
                memmem::find_iter(bytes, magic)
                    .any(|at| matches!(bytes.get(at + 6..at + 8), Some([1 | 4, 8])))
            })
        })
}

/// Whether there is a note with Go's build ID (`cmd/link/internal/ld/elf.go`: name "Go", type 4).
fn has_go_note(image: &Image<'_>) -> bool {
    image
        .notes()
        .iter()
        .any(|n| memmem::find(n, b"\x04\0\0\0Go\0\0").is_some())
}
