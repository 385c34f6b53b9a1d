//! How to trace a program, as far as its file alone says. Found once for each file: it borrows nothing from the file's
//! bytes, and takes some kilobytes. [`Program::live`] adds what a process says.

use super::Plan;
use crate::{
    binary::{
        Facts, Globals, GoBinary, globals,
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
    /// Readings with the layouts of neighbouring releases, if its own is not known: the memory of a process may
    /// confirm one of them.
    neighbours: Vec<Reading>,
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
                .map(|neighbour| reading(Ok(neighbour)))
                .collect(),
        }
    }

    /// The reading that follows from the file alone.
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// The reading with the number that [`Live`] has: 0 is that of the file alone.
    pub fn nth(&self, nth: usize) -> &Reading {
        let neighbour = nth.checked_sub(1).and_then(|nth| self.neighbours.get(nth));
        neighbour.unwrap_or(&self.reading)
    }

    /// Checks the program in a process that has it `bias` away from its link-time addresses. If the release's own
    /// layout is not known, a neighbour's is taken if it is the only one that memory confirms in every struct.
    /// Variables that memory refutes are left out.
    pub fn live(&self, memory: &impl Memory, bias: u64) -> Live<'_> {
        let layout_of = |reading: &Reading| reading.layout.as_ref().ok().map(|(layout, _)| layout.clone());
        let mut fitting = (1..).zip(&self.neighbours).filter(|(_, reading)| {
            let layout = layout_of(reading);
            check_live(memory, &reading.globals, bias, layout.as_ref()).confirms_layout()
        });
        let (nth, reading) = match (fitting.next(), fitting.next()) {
            (Some(one), None) => one,
            _ => (0, &self.reading),
        };
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
