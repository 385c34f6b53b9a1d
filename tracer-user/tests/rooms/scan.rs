//! Reads the source files of the crate, and what each of them imports.
//!
//! An import is a path in a `use` declaration (nested ones too), or one within the code that begins with `crate::`,
//! `super::` or `self::`. Lines are searched, since `rustfmt` begins one with each declaration: a parser would be a
//! dependency for this check alone.

use std::{
    fs, iter,
    ops::Range,
    path::{Path, PathBuf},
};

/// Files of the crate's root that put the rooms together.
const ROOTS: [&str; 2] = ["main.rs", "lib.rs"];
/// File stems and folders that hold test code only.
const TEST_CODE: [&str; 5] = ["tests", "testing", "scenarios", "random", "fixtures"];

/// The source files that are scanned: no test code, and no root.
pub struct Sources(Vec<SourceFile>);

/// A source file.
pub struct SourceFile {
    /// Its path, relative to `src/`.
    pub path: PathBuf,
    /// Its module, from the root of the crate: the room first.
    module: Vec<String>,
    /// Its code without line comments and without its unit tests; lines are numbered as in the file.
    code: String,
}

/// A path that a file names.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    /// The line that it is in.
    pub line: usize,
    /// Its parts, from the root of the crate: the room first.
    pub path: Vec<String>,
    /// Whether it is only passed on, by `pub use`.
    pub is_reexport: bool,
}

impl SourceFile {
    /// The room that it belongs to.
    pub fn room(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }
}

impl Sources {
    /// Reads the files of this crate.
    pub fn of_crate() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut paths = Vec::new();
        list(&folder, &mut paths);
        paths.sort();
        let files = paths.iter().map(|path| {
            let text = fs::read_to_string(path).unwrap();
            (path.strip_prefix(&folder).unwrap().to_owned(), text)
        });
        Self::of(files)
    }

    /// Takes these files: paths relative to `src/`, and texts.
    pub fn of(files: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let scanned = files.into_iter().filter(|(path, _)| {
            let is_root = ROOTS.iter().any(|root| path == Path::new(root));
            !is_root && !is_test_code(path)
        });
        let files = scanned.map(|(path, text)| SourceFile {
            module: module_of(&path),
            code: production_code(&text),
            path,
        });
        Self(files.collect())
    }

    /// The files, sorted by path.
    pub fn files(&self) -> &[SourceFile] {
        &self.0
    }

    /// The file that an item at this path is in, or re-exported from: the longest beginning that is a module decides.
    pub fn owner(&self, path: &[String]) -> Option<&SourceFile> {
        (1..=path.len())
            .rev()
            .find_map(|length| self.0.iter().find(|file| file.module == path[..length]))
    }

    /// What a file imports from this crate, in the order of its text, declarations first.
    pub fn imports(&self, file: &SourceFile) -> Vec<Import> {
        let code = &file.code;
        let declarations = declarations(code);
        let mut found = Vec::new();
        for declaration in &declarations {
            let mut leaves = Vec::new();
            add_leaves(declaration.tree, declaration.begin, &[], &mut leaves);
            found.extend(leaves.into_iter().map(|leaf| (leaf, declaration.is_reexport)));
        }
        let is_declared = |at: usize| {
            let mut ranges = declarations.iter().map(Declaration::range);
            ranges.any(|range| range.contains(&at))
        };
        let inline = inline_paths(code).into_iter().filter(|(at, _)| !is_declared(*at));
        found.extend(inline.map(|path| (path, false)));
        found
            .into_iter()
            .filter_map(|((at, path), is_reexport)| {
                Some(Import {
                    line: code[..at].matches('\n').count() + 1,
                    path: self.path_from_root(&file.module, &path)?,
                    is_reexport,
                })
            })
            .collect()
    }

    /// A path as it is written in `module`, from the root of the crate; `None` if it leads to another crate.
    fn path_from_root(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module, &path[1..]].concat()),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                let above = &module[..module.len().checked_sub(ups)?];
                Some([above, &path[ups..]].concat())
            }
            _ => {
                let child = [module, &path[..1]].concat();
                let is_module = self.0.iter().any(|file| file.module == child);
                is_module.then(|| [module, path].concat())
            }
        }
    }
}

/// Lists the Rust files below a folder.
fn list(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn is_test_code(file: &Path) -> bool {
    module_of(file)
        .iter()
        .any(|part| TEST_CODE.contains(&part.as_str()))
}

fn module_of(file: &Path) -> Vec<String> {
    let stem = file.with_extension("");
    let mut module: Vec<String> = stem
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// The code of a file without line comments and without its unit tests; line numbers stay as they are.
fn production_code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let code = text.get(..end).unwrap_or(text);
    code.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// A `use` declaration.
struct Declaration<'a> {
    /// Where its tree of paths begins in the code.
    begin: usize,
    tree: &'a str,
    is_reexport: bool,
}

impl Declaration<'_> {
    /// Where its tree is in the code.
    fn range(&self) -> Range<usize> {
        self.begin..self.begin + self.tree.len()
    }
}

/// The declarations of a file, each of which begins a line.
fn declarations(code: &str) -> Vec<Declaration<'_>> {
    let mut found = Vec::new();
    let mut line_at = 0;
    for line in code.split_inclusive('\n') {
        let statement_at = line_at + line.len() - line.trim_start().len();
        line_at += line.len();
        if line.trim().is_empty() {
            continue;
        }
        let statement = &code[statement_at..];
        let visibility = visibility_of(statement);
        if let Some(tree) = statement[visibility.len()..].strip_prefix("use ")
            && let Some(length) = tree.find(';')
        {
            found.push(Declaration {
                begin: code.len() - tree.len(),
                tree: &tree[..length],
                is_reexport: !visibility.is_empty(),
            });
        }
    }
    found
}

/// `pub ` or `pub(…) ` at the beginning of a statement; empty if it has neither.
fn visibility_of(statement: &str) -> &str {
    let length = match statement.strip_prefix("pub") {
        Some(rest) if rest.starts_with(' ') => "pub ".len(),
        Some(rest) if rest.starts_with('(') => statement.find(") ").map_or(0, |end| end + ") ".len()),
        _ => 0,
    };
    &statement[..length]
}

/// Adds each path of a tree, with the place at which its last part begins.
fn add_leaves(tree: &str, tree_at: usize, prefix: &[String], leaves: &mut Vec<(usize, Vec<String>)>) {
    for (at, item) in items(tree) {
        match item.split_once('{') {
            Some((path, rest)) => {
                let inner = rest.strip_suffix('}').unwrap_or(rest);
                let inner_at = tree_at + at + path.len() + 1;
                add_leaves(inner, inner_at, &joined(prefix, path), leaves);
            }
            None => {
                // Without `as NAME`.
                let path = item.split_whitespace().next().unwrap_or_default();
                if !path.is_empty() {
                    leaves.push((tree_at + at, joined(prefix, path)));
                }
            }
        }
    }
}

/// The items of a list, split at commas that are not within braces, each with its place.
fn items(list: &str) -> Vec<(usize, &str)> {
    let (mut depth, mut begin, mut items) = (0, 0, Vec::new());
    for (at, c) in list.char_indices().chain(iter::once((list.len(), ','))) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let item = &list[begin..at];
                items.push((begin + item.len() - item.trim_start().len(), item.trim()));
                begin = at + 1;
            }
            _ => {}
        }
    }
    items
}

/// A path behind a prefix. `self` behind one is the prefix itself.
fn joined(prefix: &[String], path: &str) -> Vec<String> {
    let mut joined = prefix.to_vec();
    for part in path.split("::").map(str::trim) {
        let is_prefix = part == "self" && !joined.is_empty();
        if !part.is_empty() && !is_prefix {
            joined.push(part.to_owned());
        }
    }
    joined
}

/// The paths in the code that begin with `crate::`, `super::` or `self::`, each with its place.
fn inline_paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    for word in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(word) {
            let before = &code[..at];
            // `pub(in crate::a)` imports nothing.
            if before.ends_with(is_part) || before.ends_with("pub(in ") {
                continue;
            }
            let path = code[at..].split(|c: char| !is_part(c)).next().unwrap_or_default();
            found.push((at, joined(&[], path)));
        }
    }
    found
}
