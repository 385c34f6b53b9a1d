//! Offsets of the runtime's struct fields, by Go version, experiments and architecture.
//!
//! The table in the repository is tried first, by exact release: it takes microseconds, and works for stripped
//! binaries, too. For other releases the binary's own DWARF is read ([`from_dwarf`]); if there is none, that is
//! reported, with what still works. Nothing is extrapolated from the table: a layout of another release is only a
//! candidate, which the memory of a live process must confirm ([`Candidates`]).

mod dwarf;
mod entries;
mod fields;
mod structs;
mod table;

use std::fmt;

use serde::Serialize;

pub use dwarf::{NoDwarf, from_dwarf};
pub use structs::{G, Layout, M, Moduledata, P, Sched, TimeHist, TimeHistogram};

use self::table::{Known, Table};
use super::{Arch, GoVersion};

/// Where a layout comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LayoutSource {
    /// This release is in the table.
    Table,
    /// The table has the patch releases `below` and `above` it, and both have this layout.
    Bracketed {
        /// Patch number of the nearest older release in the table.
        below: u32,
        /// Patch number of the nearest newer release in the table.
        above: u32,
    },
    /// The binary's own debug information.
    Dwarf,
    /// Another patch release is in the table, and the memory of the live process confirmed its layout in every struct
    /// (see [`Candidates`]).
    Confirmed {
        /// Patch number of that release.
        like: u32,
    },
    /// The version is a vendor's, a prerelease, or of a minor version that the table lacks (or has experiments that
    /// nobody has examined). The memory of the live process fits the layout of this release in every relation that is
    /// checked; fields that none of them covers may be elsewhere.
    Unproven {
        /// Minor version of that release.
        minor: u32,
        /// Patch number of that release.
        patch: u32,
    },
}

impl LayoutSource {
    /// Describes the source of the layout of a binary of this version, which live memory has confirmed where that is
    /// needed.
    pub fn describe(self, version: &GoVersion) -> String {
        match self {
            Self::Unproven { .. } => {
                format!("{self}, unproven for {}, live invariants hold", version.raw)
            }
            _ => self.to_string(),
        }
    }

    /// Names the layout of a binary of this version as a candidate, which no memory has confirmed yet.
    pub fn candidate(self, version: &GoVersion) -> String {
        match self {
            Self::Confirmed { like } => format!("that of go1.{}.{like}", version.minor),
            _ => self.to_string(),
        }
    }

    /// Whether nobody has seen a program of this version with this layout: then every output says so.
    pub const fn is_unproven(self) -> bool {
        matches!(self, Self::Unproven { .. })
    }
}

impl fmt::Display for LayoutSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutSource::Table => f.write_str("table"),
            LayoutSource::Bracketed { below, above } => {
                write!(f, "table (patch releases .{below} and .{above} agree)")
            }
            LayoutSource::Dwarf => f.write_str("DWARF of the binary"),
            LayoutSource::Confirmed { like } => {
                write!(f, "table (patch release .{like}), confirmed against live memory")
            }
            LayoutSource::Unproven { minor, patch } => write!(f, "that of go1.{minor}.{patch}"),
        }
    }
}

/// Why the table has no layout for a binary. Displays as half a sentence: "go1.28.0 is newer than …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotInTable(String);

/// Why no layout is known for a binary: neither the table nor the binary has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the layout of the runtime's structs is not known: {table}; {dwarf}. Without it the programs cannot read \
     goroutines (no creation sites, no gauges). What needs no layout still works: `exact`, and `passive` where \
     the address of sched.timeToRun can be decoded and the runtime's buckets are known. To get the rest: run a \
     binary with debug information (built without -ldflags=-s or -w, not stripped)"
)]
pub struct Unknown {
    /// Why the table does not have one.
    pub table: NotInTable,
    /// Why the binary's DWARF does not have one.
    pub dwarf: NoDwarf,
}

/// Looks up the layout of a release, in the table alone.
///
/// `build_tags` are the `-tags` of the build, if the build information has them: `debuglog` moves fields.
pub fn find(
    version: &GoVersion,
    arch: Arch,
    build_tags: &[&str],
) -> Result<(Layout, LayoutSource), NotInTable> {
    let (raw, minor) = (&version.raw, version.minor);
    if let Some(suffix) = &version.vendor_or_prerelease {
        return Err(NotInTable(format!(
            "{raw} is not a release of the Go project ({suffix})"
        )));
    }
    let table =
        Table::embedded().map_err(|e| NotInTable(format!("the embedded table cannot be read: {e}")))?;
    let why = match table.find(minor, version.patch, arch, &version.experiments, build_tags) {
        Known::Exactly(layout) => return Ok((*layout, LayoutSource::Table)),
        Known::Between(layout, below, above) => {
            return Ok((*layout, LayoutSource::Bracketed { below, above }));
        }
        Known::UnknownExperiment(which) => format!("{raw}: experiment {which} has not been examined in it"),
        Known::MovingTag(tag) => format!("{raw}: the build tag {tag} moves fields"),
        Known::NotThere(patches) => match (patches.as_slice(), table.newest_minor()) {
            ([], Some(newest)) if minor > newest => {
                format!("{raw} is newer than the table, which ends with go1.{newest}")
            }
            ([], _) => format!("the table has no release of go1.{minor}"),
            (known, _) => {
                let known: Vec<_> = known.iter().map(|patch| format!("1.{minor}.{patch}")).collect();
                format!(
                    "{raw} is not in the table, which of go1.{minor} has {}",
                    known.join(", ")
                )
            }
        },
    };
    Err(NotInTable(why))
}

/// The layout for a binary: from the table, or else from the DWARF in `elf`, the whole file.
pub fn find_or_dwarf(
    version: &GoVersion,
    arch: Arch,
    build_tags: &[&str],
    elf: &[u8],
) -> Result<(Layout, LayoutSource), Unknown> {
    find(version, arch, build_tags).or_else(|table| match from_dwarf(elf) {
        Ok(layout) => Ok((layout, LayoutSource::Dwarf)),
        Err(dwarf) => Err(Unknown { table, dwarf }),
    })
}

/// The layouts that a binary may have.
#[derive(Clone, Debug)]
pub struct Candidates {
    /// Its own layout, or why it is not known.
    pub layout: Result<(Layout, LayoutSource), Unknown>,
    /// If it is not known, those of neighbouring releases, in groups, the likeliest first. One can be used if the
    /// memory of a live process confirms it in every struct
    /// ([`check_live`](crate::process::layout::check_live)), and no other one of its group or of an earlier group.
    pub neighbours: Vec<Vec<(Layout, LayoutSource)>>,
}

/// Finds the layouts for one file: from the table, or else from the DWARF of `elf`, or else those of its neighbours.
pub fn candidates(version: &GoVersion, arch: Arch, build_tags: &[&str], elf: &[u8]) -> Candidates {
    let layout = find_or_dwarf(version, arch, build_tags, elf);
    let neighbours = match &layout {
        Err(_) => neighbours(version, arch, build_tags),
        Ok(_) => Vec::new(),
    };
    Candidates { layout, neighbours }
}

/// The layouts that a binary of a release that the table lacks may have, in groups, the likeliest first: that of the
/// release whose number a vendor's version has; those of the other patch releases of its minor version; and, if the
/// table has none or the version is not a release, those of the nearest minor version below and of the one above.
pub fn neighbours(version: &GoVersion, arch: Arch, build_tags: &[&str]) -> Vec<Vec<(Layout, LayoutSource)>> {
    let Ok(table) = Table::embedded() else {
        return Vec::new();
    };
    if table.is_moved_by(build_tags) {
        return Vec::new();
    }
    let of = |minor, patch| table.neighbours(minor, patch, arch, &version.experiments, build_tags);
    let (same, others): (Vec<_>, Vec<_>) = of(version.minor, version.patch)
        .into_iter()
        .partition(|neighbour| neighbour.patch == version.patch);
    let is_release = version.vendor_or_prerelease.is_none();
    let has_minor = !same.is_empty() || !others.is_empty();
    let mut groups = vec![same, others];
    if !is_release || !has_minor {
        let (below, above) = table.nearest_minors(version.minor, arch);
        // The patch release that is nearest in time: the last one of an older minor version, the first of a newer one.
        let nearest = |minor: Option<u32>, patch| {
            let all = minor.map(|minor| of(minor, patch)).unwrap_or_default();
            all.into_iter().take(1).collect::<Vec<_>>()
        };
        groups.extend([nearest(below, u32::MAX), nearest(above, 0)]);
    }
    let mut distinct: Vec<Layout> = Vec::new();
    let mut found = Vec::new();
    for group in groups {
        let mut kept = Vec::new();
        for neighbour in group {
            if distinct.contains(&neighbour.layout) {
                continue;
            }
            distinct.push(neighbour.layout.clone());
            let source = if is_release && neighbour.minor == version.minor && neighbour.examined {
                LayoutSource::Confirmed {
                    like: neighbour.patch,
                }
            } else {
                LayoutSource::Unproven {
                    minor: neighbour.minor,
                    patch: neighbour.patch,
                }
            };
            kept.push((neighbour.layout, source));
        }
        if !kept.is_empty() {
            found.push(kept);
        }
    }
    found
}

/// How the buckets of a `runtime.timeHistogram` map to nanoseconds; the formulas are in `histogram.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum TimeHistogramScheme {
    /// Go 1.19: 45 × 16 buckets.
    Go119,
    /// Go 1.21 and newer: 40 × 4 buckets, the first of them 0..64 ns.
    Go121,
}

impl Layout {
    /// The scheme that the runtime's own constants define; `None` for one that gmpscope does not know.
    pub fn time_histogram_scheme(&self) -> Option<TimeHistogramScheme> {
        let hist = &self.time_hist;
        let bits = (
            hist.min_bucket_bits,
            hist.max_bucket_bits,
            hist.super_buckets,
            hist.sub_bucket_bits,
        );
        match (bits, self.time_histogram.buckets, self.time_histogram.overflow) {
            ((Some(9), Some(48), None, 2), 160, Some(_)) => Some(TimeHistogramScheme::Go121),
            ((None, None, Some(45), 4), 720, None) => Some(TimeHistogramScheme::Go119),
            _ => None,
        }
    }
}

/// The scheme of a minor version, for a binary whose layout is not known. `None` if it was never examined: Go 1.20,
/// older than 1.19, newer than the table.
pub fn time_histogram_scheme(version: &GoVersion) -> Option<TimeHistogramScheme> {
    let newest = Table::embedded().ok()?.newest_minor()?;
    match version.minor {
        19 => Some(TimeHistogramScheme::Go119),
        minor if (21..=newest).contains(&minor) => Some(TimeHistogramScheme::Go121),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
