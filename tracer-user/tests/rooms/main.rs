//! The rooms of `src/` import in one direction only, from those that are listed first to those below them, and no two
//! files import each other.
//!
//! Test code may import what it likes: files and folders that are called `tests`, `testing`, `scenarios`, `random` or
//! `fixtures`, and what follows `#[cfg(test)] mod tests` in a file.

mod circles;
mod scan;

use std::path::PathBuf;

use circles::circles;
use scan::{SourceFile, Sources};

/// Every room, in the order in which they may import: each only from those behind it.
const ROOMS: [&str; 22] = [
    "commands", "cli", "daemon", "session", "output", "document", "findings", "doctor", "latency", "sources",
    "model", "stream", "plan", "bpf", "process", "binary", "kernel", "writing", "escape", "duration",
    "clock", "error",
];

fn place_of(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

/// What is wrong with the imports of one file.
fn mistakes(sources: &Sources, file: &SourceFile) -> Vec<String> {
    let room = file.room();
    let Some(own) = place_of(room) else {
        return vec![format!(
            "{}: the room `{room}` has no place in the list",
            file.path.display()
        )];
    };
    let mut mistakes = Vec::new();
    for import in sources.imports(file) {
        // What is not a room is a macro or an item of the crate's root.
        if let Some(imported) = import.path.first()
            && place_of(imported).is_some_and(|place| place < own)
        {
            let line = import.line;
            mistakes.push(format!(
                "{}:{line}: `{room}` imports from `{imported}`, which stands above it",
                file.path.display()
            ));
        }
    }
    // A list of names from one room is one mistake.
    mistakes.dedup();
    mistakes
}

/// The mistakes in all files.
fn all_mistakes(sources: &Sources) -> Vec<String> {
    let files = sources.files().iter();
    files.flat_map(|file| mistakes(sources, file)).collect()
}

/// Files by path and text.
fn sources<const N: usize>(files: [(&str, &str); N]) -> Sources {
    Sources::of(files.map(|(path, text)| (PathBuf::from(path), text.to_owned())))
}

#[test]
fn rooms_import_downwards_only() {
    let sources = Sources::of_crate();
    let count = sources.files().len();
    assert!(count > 100, "{count} files are not all of the crate");
    let wrong = all_mistakes(&sources);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_two_files_import_each_other() {
    let circles = circles(&Sources::of_crate());
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn an_import_that_is_turned_round_is_named_with_file_and_line() {
    let text = "use crate::{\n    error::Error,\n    output::{sink::Sink, text},\n};\n\
                // crate::commands is only mentioned\n\
                fn f() { crate::daemon::run() }\n\
                #[cfg(test)]\nmod tests {\n    use crate::commands::run;\n}\n";
    let found = all_mistakes(&sources([("stream/mod.rs", text)]));
    assert_eq!(
        found,
        [
            "stream/mod.rs:3: `stream` imports from `output`, which stands above it",
            "stream/mod.rs:6: `stream` imports from `daemon`, which stands above it",
        ]
    );
    assert!(all_mistakes(&sources([("commands/run.rs", text)])).is_empty());
    assert_eq!(
        all_mistakes(&sources([("attic/mod.rs", "")])),
        ["attic/mod.rs: the room `attic` has no place in the list"]
    );
}

#[test]
fn circles_of_two_and_of_three_are_found() {
    let two = sources([
        ("a.rs", "use crate::{\n    b::{\n        B,\n    },\n};\n"),
        ("b.rs", "\n\nfn f() { super::a::f() }\n"),
    ]);
    assert_eq!(
        circles(&two),
        ["a.rs -> b.rs -> a.rs\n    a.rs:3 imports b.rs\n    b.rs:3 imports a.rs"]
    );
    let three = sources([
        ("a/mod.rs", "mod b;\nmod c;\n\nuse b::B;\n"),
        ("a/b.rs", "use super::c::{self, C};\n"),
        ("a/c.rs", "use super::A as Above;\nuse crate::d::D;\n"),
        ("d.rs", ""),
    ]);
    assert_eq!(
        circles(&three),
        [
            "a/b.rs -> a/c.rs -> a/mod.rs -> a/b.rs\n    a/b.rs:1 imports a/c.rs\n    \
          a/c.rs:1 imports a/mod.rs\n    a/mod.rs:4 imports a/b.rs"
        ]
    );
}

#[test]
fn modules_reexports_and_tests_make_no_circle() {
    let text = "pub mod b;\n\npub use b::B;\npub(in crate::a) use self::b::{C, D};\n\npub(in crate::a) fn f() {}\n\n\
                #[cfg(test)]\nmod tests {\n    use super::b::E;\n}\n";
    let apart = sources([
        ("a/mod.rs", text),
        ("a/b.rs", "use super::A;\n\n// use super::c::C;\n"),
        ("a/tests.rs", "use super::b::B;\n"),
    ]);
    assert!(circles(&apart).is_empty(), "{:?}", circles(&apart));
}
