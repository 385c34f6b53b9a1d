//! The rooms of `src/` import in one direction only: from those that are listed first to those below them.
//!
//! The scan reads `crate::ROOM` in every source file, in `use` declarations (nested ones too) and in paths. Test code
//! may import what it likes: files and folders that are called `tests`, `testing`, `scenarios`, `random` or `fixtures`,
//! and what follows `#[cfg(test)] mod tests` in a file.

use std::fs;
use std::path::{Path, PathBuf};

/// Every room, in the order in which they may import: each only from those behind it.
const ROOMS: [&str; 22] = [
    "commands", "cli", "daemon", "session", "output", "document", "findings", "doctor", "latency", "sources",
    "model", "stream", "plan", "bpf", "process", "binary", "kernel", "writing", "escape", "duration",
    "clock", "error",
];
/// Files of the crate's root that put the rooms together.
const ROOTS: [&str; 2] = ["main.rs", "lib.rs"];
/// File stems and folders that hold test code only.
const TEST_CODE: [&str; 5] = ["tests", "testing", "scenarios", "random", "fixtures"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Source files below a folder, as paths relative to `src/`.
fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path.strip_prefix(source()).unwrap().to_owned());
        }
    }
}

fn is_test_code(file: &Path) -> bool {
    file.with_extension("")
        .iter()
        .any(|part| TEST_CODE.iter().any(|name| part == *name))
}

/// The room that a file belongs to.
fn room_of(file: &Path) -> String {
    let first = file.iter().next().unwrap_or_default();
    Path::new(first).with_extension("").display().to_string()
}

/// The code of a file without line comments and without its unit tests; line numbers stay as they are.
fn production_code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let code = text.get(..end).unwrap_or(text);
    code.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// (line, room) for every room that `code` names as `crate::ROOM` or within `crate::{…}`.
fn imports(code: &str) -> Vec<(usize, String)> {
    const CRATE: &str = "crate::";
    let mut found = Vec::new();
    for (at, _) in code.match_indices(CRATE) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + CRATE.len()..];
        let line_of = |offset: usize| code[..at + CRATE.len() + offset].matches('\n').count() + 1;
        match rest.strip_prefix('{') {
            None => found.push((line_of(0), name_at(rest))),
            Some(list) => {
                // The names that stand directly within the braces.
                let (mut depth, mut expects_name) = (0, true);
                for (offset, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => expects_name = true,
                        c if expects_name && depth == 0 && !c.is_whitespace() => {
                            found.push((line_of(1 + offset), name_at(&list[offset..])));
                            expects_name = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

fn name_at(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

fn place_of(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

/// What is wrong with the imports of one file.
fn mistakes(file: &Path, text: &str) -> Vec<String> {
    let room = room_of(file);
    let Some(own) = place_of(&room) else {
        return vec![format!(
            "{}: the room `{room}` has no place in the list",
            file.display()
        )];
    };
    let mut mistakes = Vec::new();
    for (line, imported) in imports(&production_code(text)) {
        // What is no room is a macro or an item of the crate's root.
        if let Some(place) = place_of(&imported)
            && place < own
        {
            mistakes.push(format!(
                "{}:{line}: `{room}` imports from `{imported}`, which stands above it",
                file.display()
            ));
        }
    }
    mistakes
}

#[test]
fn rooms_import_downwards_only() {
    let mut all = Vec::new();
    files(&source(), &mut all);
    all.sort();
    assert!(all.len() > 100, "{} files are not all of the crate", all.len());
    let mut wrong = Vec::new();
    for file in all {
        let is_root = ROOTS.iter().any(|root| file == Path::new(root));
        if is_root || is_test_code(&file) {
            continue;
        }
        let text = fs::read_to_string(source().join(&file)).unwrap();
        wrong.extend(mistakes(&file, &text));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn an_import_that_is_turned_round_is_named_with_file_and_line() {
    let text = "use crate::{\n    error::Error,\n    output::{sink::Sink, text},\n};\n\
                // crate::commands is only mentioned\n\
                fn f() { crate::daemon::run() }\n\
                #[cfg(test)]\nmod tests {\n    use crate::commands::run;\n}\n";
    let found = mistakes(Path::new("stream/mod.rs"), text);
    assert_eq!(
        found,
        [
            "stream/mod.rs:3: `stream` imports from `output`, which stands above it",
            "stream/mod.rs:6: `stream` imports from `daemon`, which stands above it",
        ]
    );
    assert!(mistakes(Path::new("commands/run.rs"), text).is_empty());
    let unknown = mistakes(Path::new("attic/mod.rs"), "");
    assert_eq!(
        unknown,
        ["attic/mod.rs: the room `attic` has no place in the list"]
    );
}
