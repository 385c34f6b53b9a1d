//! How to trace a program, as far as its file alone says. Found once for each file: it borrows nothing from the file's
//! bytes, and takes some kilobytes. [`Program::live`] adds what a process says.

use super::Plan;
use crate::{
    binary::{
        Facts, Globals, GoBinary, GoVersion, globals,
        image::Segment,
        layout::{self, Candidates, Layout, LayoutSource, Unknown},
    },
    process::{
        layout::{LiveCheck, Verdict, check_live},
        memory::Memory,
    },
};

/// An analysed program.
#[derive(Clone, Debug)]
pub struct Program {
    /// How it was built.
    pub facts: Facts,
    /// Its executable segments, by which it is found in a process.
    pub code: Vec<Segment>,
    /// Link-time address of its moduledata, the first of the runtime's list, if it can load plugins.
    pub modules: Option<u64>,
    /// The reading with the layout of its release, or without any.
    reading: Reading,
    /// Readings with the layouts of neighbouring releases, if its own is not known, in groups, the likeliest first: the
    /// memory of a process may confirm one of them.
    neighbours: Vec<Vec<Reading>>,
}

/// What follows from one layout of the runtime's structs.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The layout, or why it is not known.
    pub layout: Result<(Layout, LayoutSource), Unknown>,
    /// Link-time addresses of the runtime's variables, as the code has them.
    pub globals: Globals,
    /// The sites of each mode.
    pub plan: Plan,
}

/// What is known of a program in a live process, after a check of its memory.
#[derive(Clone, Debug)]
pub struct Live<'p> {
    /// Layout and plan; the addresses in it are not checked.
    pub reading: &'p Reading,
    /// The number of that reading, see [`Program::nth`].
    pub nth: usize,
    /// Link-time addresses of the variables, except those that live memory refutes.
    pub globals: Globals,
    /// What live memory says about each variable.
    pub check: LiveCheck,
}

impl Program {
    /// Decodes a program. `force` admits instructions that the kernel must single-step.
    pub fn of(binary: &GoBinary<'_>, force: bool) -> Self {
        let (facts, elf) = (binary.facts(), binary.image().data);
        let layouts = layout::candidates(&facts.version, facts.arch, &facts.build_tags(), elf);
        Self::with_layouts(binary, layouts, force)
    }

    /// Decodes a program whose structs have one of these layouts.
    pub fn with_layouts(binary: &GoBinary<'_>, layouts: Candidates, force: bool) -> Self {
        let facts = binary.facts();
        let reading = |layout: Result<(Layout, LayoutSource), Unknown>| {
            let known = layout.as_ref().ok().map(|(layout, _)| layout);
            let globals = globals::find(binary, known);
            let plan = Plan::of(binary, known, facts.version.minor, force);
            Reading {
                layout,
                globals,
                plan,
            }
        };
        let segments = binary.image().segments().iter();
        Self {
            facts: facts.clone(),
            code: segments.filter(|segment| segment.executable).copied().collect(),
            modules: binary.loads_plugins().then_some(binary.module().address),
            reading: reading(layouts.layout),
            neighbours: layouts
                .neighbours
                .into_iter()
                .map(|group| {
                    group
                        .into_iter()
                        .map(|neighbour| reading(Ok(neighbour)))
                        .collect()
                })
                .collect(),
        }
    }

    /// The reading that follows from the file alone.
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// The reading with the number that [`Live`] has: 0 is that of the file alone.
    pub fn nth(&self, nth: usize) -> &Reading {
        let neighbour = nth.checked_sub(1).and_then(|nth| self.neighbours().nth(nth));
        neighbour.unwrap_or(&self.reading)
    }

    /// The readings of which the memory of a process may confirm one, the likeliest first; none if the layout is known.
    pub fn neighbours(&self) -> impl Iterator<Item = &Reading> {
        self.neighbours.iter().flatten()
    }

    /// Checks the program in a process that has it `bias` away from its link-time addresses. If the release's own
    /// layout is not known, a neighbour's is taken if memory confirms it in every struct, the code does not contradict
    /// it, and neither holds for another one of its group or of a likelier group. Variables that memory refutes are
    /// left out.
    pub fn live(&self, memory: &impl Memory, bias: u64) -> Live<'_> {
        let layout_of = |reading: &Reading| reading.layout.as_ref().ok().map(|(layout, _)| layout.clone());
        let mut first = 1;
        let (mut nth, mut reading) = (0, &self.reading);
        for group in &self.neighbours {
            let mut fitting = (first..).zip(group).filter(|(_, reading)| {
                let layout = layout_of(reading);
                reading.agrees_with_code(&self.reading)
                    && check_live(memory, &reading.globals, bias, layout.as_ref()).confirms_layout()
            });
            match (fitting.next(), fitting.next()) {
                (Some(one), None) => {
                    (nth, reading) = one;
                    break;
                }
                // It cannot be known which.
                (Some(_), Some(_)) => break,
                (None, _) => first += group.len(),
            }
        }
        let check = check_live(memory, &reading.globals, bias, layout_of(reading).as_ref());
        Live {
            reading,
            nth,
            globals: check.believed(&reading.globals),
            check,
        }
    }
}

impl Live<'_> {
    /// The variables that memory refutes, and what was found instead.
    pub fn refuted(&self) -> Vec<(&'static str, &str)> {
        let verdicts = self.check.verdicts().into_iter();
        let refuted = verdicts.filter_map(|(variable, verdict)| match verdict {
            Verdict::Refuted(found) => Some((variable, found.as_str())),
            _ => None,
        });
        refuted.collect()
    }
}

impl Reading {
    /// Whether the layout has the fields that decoding finds by their use where the code has them. `without` is the
    /// reading of the same program without a layout.
    fn agrees_with_code(&self, without: &Reading) -> bool {
        let stamp = |reading: &Reading| {
            let sampled = reading.plan.sampled.as_ref().ok();
            sampled.and_then(|sampled| sampled.stamp)
        };
        // With a layout that has g.atomicstatus elsewhere, no site of `exact` is found.
        (self.plan.exact.is_ok() || without.plan.exact.is_err()) && stamp(self) == stamp(without)
    }

    /// Where the layout is from, for a program of this version: a sentence for every output, unless it is that of the
    /// version itself.
    pub fn unproven_layout(&self, version: &GoVersion) -> Option<String> {
        let (_, source) = self.layout.as_ref().ok()?;
        source.is_unproven().then(|| source.describe(version))
    }

    /// The layout, if it is known.
    pub fn layout(&self) -> Option<&Layout> {
        self.layout.as_ref().ok().map(|(layout, _)| layout)
    }

    /// Offset of `g.trackingStamp`: as the code uses it, or else from the layout.
    pub fn tracking_stamp(&self) -> Option<u32> {
        let decoded = self.plan.sampled.as_ref().ok().and_then(|sampled| sampled.stamp);
        decoded.or_else(|| self.layout().map(|layout| layout.g.tracking_stamp))
    }
}
