//! Tables that programs of the tests crate make.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::{markdown, measuring_program};
use crate::setup::{self, Component};
use crate::{go, step};

/// A table that a program of the tests crate makes, with programs built by the newest Go.
pub struct MadeTable {
    /// The program, by whose name the bench is called, too.
    pub program: &'static str,
    /// Whether it is built with optimizations.
    pub is_release: bool,
    /// What it does, for whoever waits for it.
    pub what: &'static str,
    /// The document that has the table.
    pub document: &'static str,
    /// The line above the table, from the description of machine and Go.
    pub head: fn(&str) -> String,
}

impl MadeTable {
    /// Makes the table and prints it; with `write` the document gets it.
    ///
    /// # Errors
    /// The program fails, or the document has no place for the table.
    pub fn run(&self, write: bool) -> Result<()> {
        setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
        let mut program = measuring_program(self.program, self.is_release)?;
        let table = written_by(self.what, &mut program)?;
        let text = format!("{}\n\n{table}", (self.head)(&place()));
        let name = format!("cargo xtask bench {}", self.program);
        markdown::publish(self.document, &name, &text, write)
    }
}

/// Runs a program of the tests crate that writes a table into the file that its last argument names, and returns the table.
pub fn written_by(what: &str, program: &mut Command) -> Result<String> {
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("table.md");
    step::run(what, program.arg(&file))?;
    fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
}

/// Describes this machine and the newest Go, with which it was measured.
pub fn place() -> String {
    format!("{}; Go {}", markdown::machine(), go::NEWEST)
}
