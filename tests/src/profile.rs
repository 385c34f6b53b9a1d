//! Profiles for profile-guided optimisation (PGO), from `tests/profiles`. They are not measured when the tests run,
//! because what a CPU profile makes the compiler inline differs from one machine to the next.
//!
//! `tests/profiles/shapes.json` says which calls are hot in each, and what each Go inlines then; `cargo xtask profiles`
//! generates the profiles from it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::environment::package;
use crate::variant::Variant;

/// The functions that are hot in a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// All of the scheduler except the runtime's histogram of waits.
    Scheduler,
    /// All of the scheduler, and the histogram: casgstatus is inlined, and contains the histogram's code where it is
    /// not.
    Recorded,
    /// The histogram alone.
    Histogram,
    /// A few of the calls of casgstatus, without the one that begins to run a goroutine.
    Few,
    /// Nothing of the scheduler.
    Cold,
}

impl Profile {
    /// All shapes.
    pub const ALL: [Self; 5] = [
        Self::Scheduler,
        Self::Recorded,
        Self::Histogram,
        Self::Few,
        Self::Cold,
    ];

    /// The name in `shapes.json`, and of the folder.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Recorded => "recorded",
            Self::Histogram => "histogram",
            Self::Few => "few",
            Self::Cold => "cold",
        }
    }

    /// The variants in which a program of Go 1.`minor` is built with it. What the compiler inlines does not depend on
    /// the architecture, but the resulting code does, and for arm64 that matters where the runtime's own figure is
    /// taken.
    pub fn variants(self, minor: u32) -> Vec<Variant> {
        let mut variants = vec![Variant::Profiled(self)];
        if minor >= 26 && !matches!(self, Self::Few | Self::Cold) {
            variants.push(Variant::ProfiledArm64(self));
        }
        variants
    }

    /// The profile for Go 1.`minor`: it counts lines within functions, which differ between releases.
    pub fn file(self, minor: u32) -> PathBuf {
        folder().join(self.name()).join(format!("go1.{minor}.pprof"))
    }

    /// Reads the shape's entry in `shapes.json`.
    ///
    /// # Errors
    /// The file cannot be read, or has no such entry.
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

/// The folder of all profiles.
pub fn folder() -> PathBuf {
    package().join("profiles")
}

/// A shape, as `shapes.json` has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// The purpose of the shape.
    pub why: String,
    /// The hot calls: by function, the functions that it calls.
    pub hot: BTreeMap<String, Vec<String>>,
    /// What the compiler inlines: by minor version of Go, the functions that are inlined into a function.
    pub inlined: BTreeMap<u32, BTreeMap<String, Vec<String>>>,
}

/// The functions whose inlining decides where probes are set: those in [`Shape::inlined`].
pub const INLINED: [&str; 2] = ["runtime.casgstatus", "runtime.(*timeHistogram).record"];
