//! Finds files that import each other.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

use crate::scan::Sources;

/// The files that each file imports, with the line of the first import of each.
type Graph<'a> = BTreeMap<&'a Path, BTreeMap<&'a Path, usize>>;

/// Describes the shortest circle through each import that is part of one. Re-exports do not count: a module may pass on
/// what the files below it define.
pub fn circles(sources: &Sources) -> Vec<String> {
    let graph = graph(sources);
    let mut circles = BTreeSet::new();
    for (from, imported) in &graph {
        for to in imported.keys() {
            if let Some(mut circle) = way(&graph, to, from) {
                // So that it is the same from wherever it was found.
                let first = circle.iter().enumerate().min_by_key(|(_, file)| **file);
                let first = first.map_or(0, |(index, _)| index);
                circle.rotate_left(first);
                circles.insert(circle);
            }
        }
    }
    circles.iter().map(|circle| describe(&graph, circle)).collect()
}

fn graph(sources: &Sources) -> Graph<'_> {
    let mut graph = Graph::new();
    for file in sources.files() {
        let imports = sources.imports(file);
        for import in imports.iter().filter(|import| !import.is_reexport) {
            if let Some(owner) = sources.owner(&import.path)
                && owner.path != file.path
            {
                let imported = graph.entry(file.path.as_path()).or_default();
                imported.entry(owner.path.as_path()).or_insert(import.line);
            }
        }
    }
    graph
}

/// The files on the shortest way of imports between two files, with both.
fn way<'a>(graph: &Graph<'a>, from: &'a Path, to: &'a Path) -> Option<Vec<&'a Path>> {
    let mut before = BTreeMap::from([(from, from)]);
    let mut queue = VecDeque::from([from]);
    while let Some(mut at) = queue.pop_front() {
        if at == to {
            let mut way = vec![at];
            while at != from {
                at = before[at];
                way.push(at);
            }
            way.reverse();
            return Some(way);
        }
        for next in graph
            .get(at)
            .into_iter()
            .flat_map(|imported| imported.keys().copied())
        {
            before.entry(next).or_insert_with(|| {
                queue.push_back(next);
                at
            });
        }
    }
    None
}

/// The circle as `a.rs -> b.rs -> a.rs`, and a line for each of its imports.
fn describe(graph: &Graph<'_>, circle: &[&Path]) -> String {
    let nexts = circle.iter().cycle().skip(1);
    let names: Vec<String> = circle
        .iter()
        .chain(circle.first())
        .map(|file| file.display().to_string())
        .collect();
    let mut text = names.join(" -> ");
    for (file, next) in circle.iter().zip(nexts) {
        let line = graph[file][next];
        text += &format!("\n    {}:{line} imports {}", file.display(), next.display());
    }
    text
}
