//! Profiles for profile-guided optimisation (PGO). They lie in `tests/profiles`, and are not taken when the tests run:
//! what a CPU profile makes the compiler inline differs from one machine to the next.
//!
//! `tests/profiles/shapes.json` says which calls are hot in each, and what each Go makes of that; `cargo xtask
//! profiles` writes the profiles from it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::environment::package;
use crate::variant::Variant;

/// What is hot in a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// All of the scheduler but the runtime's histogram of waits.
    Scheduler,
    /// All of the scheduler, and the histogram: casgstatus is inlined, and has the histogram's code in it where it is
    /// not.
    Recorded,
    /// The histogram alone.
    Histogram,
    /// A few of the calls of casgstatus; not the one that begins to run a goroutine.
    Few,
    /// Nothing of the scheduler.
    Cold,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Scheduler,
        Self::Recorded,
        Self::Histogram,
        Self::Few,
        Self::Cold,
    ];

    /// Its name in `shapes.json`, and the folder that it is in.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Recorded => "recorded",
            Self::Histogram => "histogram",
            Self::Few => "few",
            Self::Cold => "cold",
        }
    }

    /// The ways to build a program of Go 1.`minor` with it. What the compiler inlines does not depend on the architecture;
    /// what the code then looks like does, and for arm64 that matters where the runtime's own figure is taken.
    pub fn variants(self, minor: u32) -> Vec<Variant> {
        let mut variants = vec![Variant::Profiled(self)];
        if minor >= 26 && !matches!(self, Self::Few | Self::Cold) {
            variants.push(Variant::ProfiledArm64(self));
        }
        variants
    }

    /// The file for Go 1.`minor`: a profile counts lines within functions, and each Go has others.
    pub fn file(self, minor: u32) -> PathBuf {
        folder().join(self.name()).join(format!("go1.{minor}.pprof"))
    }

    /// What `shapes.json` says of it.
    ///
    /// # Errors
    /// The file cannot be read, or does not have it.
    pub fn shape(self) -> Result<Shape> {
        let file = folder().join("shapes.json");
        let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let mut shapes: BTreeMap<String, Shape> =
            serde_json::from_slice(&text).with_context(|| format!("reading {}", file.display()))?;
        shapes
            .remove(self.name())
            .with_context(|| format!("{} has no shape {}", file.display(), self.name()))
    }
}

/// The folder that all of them are in.
pub fn folder() -> PathBuf {
    package().join("profiles")
}

/// A shape, as `shapes.json` has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// What it is for.
    pub why: String,
    /// The calls that are hot, by function: which functions it calls.
    pub hot: BTreeMap<String, Vec<String>>,
    /// What the compiler inlines: by minor version of Go the functions that a function has in it.
    pub inlined: BTreeMap<u32, BTreeMap<String, Vec<String>>>,
}

/// The functions whose inlining decides where probes go: what [`Shape::inlined`] is about.
pub const INLINED: [&str; 2] = ["runtime.casgstatus", "runtime.(*timeHistogram).record"];
