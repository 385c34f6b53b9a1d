//! `gmpscope inspect PID|FILE`: analyses a target, and attaches nothing.

mod activity;
mod modes;
mod plugins;

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    binary::{Globals, GoBinary, layout::Layout},
    cli::{FormatArg, InspectArgs, Subject},
    document::inspection::{Binary, Inspection, Layouts, SCHEMA},
    error::{Error, Result},
    escape::Untrusted,
    output::{json, sink::Sink},
    plan::Program,
    process::{
        Target,
        layout::{LiveCheck, Verdict},
        memory::ProcessMemory,
    },
};

/// Prints what the subject is and what can be traced.
///
/// # Errors
/// It is not a traceable Go binary or process.
pub fn run(args: &InspectArgs) -> Result<()> {
    // Opened before the work, which takes a second: a file that cannot be written fails here.
    let mut sink = Sink::open(args.result.file().map(PathBuf::as_path))?;
    let inspection = inspect(&args.subject())?;
    let text = match args.result.format() {
        FormatArg::Text => inspection.text(),
        FormatArg::Json => json::pretty(&inspection)?,
    };
    let _ = sink.result(&text)?;
    sink.finish_now()
}

/// What was found in the target.
struct Found {
    layout: Option<Layout>,
    globals: Globals,
    plans: modes::Plans,
    /// For a file whose layout is not known: what follows from those that it may have, each with its name.
    candidates: Vec<(String, modes::Plans)>,
}

fn inspect(subject: &Subject) -> Result<Inspection> {
    let analyse = |_: &Target, binary: &GoBinary<'_>| Ok(Program::of(binary, false));
    let (target, program) = match subject {
        Subject::Pid(pid) => {
            let pid = i32::try_from(*pid).map_err(|_| {
                Error::not_traceable(format!("there is no process {pid}: no PID is so large"))
            })?;
            Target::of_process(pid, analyse)?
        }
        Subject::File(path) => Target::of_file(path, analyse)?,
    };
    let pid = target
        .process
        .as_ref()
        .map(|process| process.pid().unsigned_abs());
    let live = pid.map(|pid| program.live(&ProcessMemory::new(pid), target.load_bias));
    target.unchanged()?;
    let reading = live.as_ref().map_or(program.reading(), |live| live.reading);
    let globals = live.as_ref().map_or(&reading.globals, |live| &live.globals);
    let candidates = match &live {
        Some(_) => Vec::new(),
        None => candidates(&program),
    };
    let found = Found {
        layout: reading.layout().cloned(),
        globals: globals.clone(),
        plans: modes::Plans::of(&program.facts, reading, globals),
        candidates,
    };
    let mut process = target
        .process
        .as_ref()
        .map(|_| activity::watch(&target, &found))
        .transpose()
        .map_err(|e| target.explain(e))?;
    if let Some(process) = &mut process {
        match plugins::all(&target, &program, reading) {
            Ok(found) => process.plugins = found,
            Err(e) => process.plugins_unknown = Some(e.message.into()),
        }
    }
    // Otherwise, some of it may belong to another program.
    target.unchanged()?;
    let modes = modes::all(
        &found,
        process.as_ref().and_then(|process| process.activity.as_ref()),
    );
    Ok(Inspection {
        schema: SCHEMA,
        binary: described(&target),
        process,
        layouts: match &reading.layout {
            Ok((_, source)) => Layouts {
                source: Some(source.describe(&program.facts.version)),
                problem: None,
                candidates: Vec::new(),
            },
            Err(unknown) => Layouts {
                source: None,
                problem: Some(unknown.to_string()),
                candidates: found.candidates.iter().map(|(name, _)| name.clone()).collect(),
            },
        },
        globals: named(&found.globals),
        globals_in_memory: live.as_ref().map(|live| verdicts(&live.check)),
        modes,
    })
}

/// What follows from each layout that a file may have, with the layout's name.
fn candidates(program: &Program) -> Vec<(String, modes::Plans)> {
    let named = program.neighbours().filter_map(|reading| {
        let (_, source) = reading.layout.as_ref().ok()?;
        let plans = modes::Plans::of(&program.facts, reading, &reading.globals);
        Some((source.candidate(&program.facts.version), plans))
    });
    named.collect()
}

fn described(target: &Target) -> Binary {
    let facts = &target.facts;
    Binary {
        path: target.file.name().clone(),
        size: target.file.len(),
        go_version: facts.version.raw.trim_start_matches("go").into(),
        arch: facts.arch.name(),
        build_mode: facts.build_mode.name(),
        stripped: facts.stripped,
        cgo: facts.cgo,
        pgo: facts.pgo,
        external_linking: facts.external_linking,
        dynamic: facts.dynamic,
        main_path: facts.main_path.as_deref().map(Untrusted::from),
    }
}

/// Describes for each variable whether the process's memory confirms it.
fn verdicts(check: &LiveCheck) -> BTreeMap<&'static str, String> {
    let describe = |verdict: &Verdict| match verdict {
        Verdict::Confirmed => "confirmed".to_owned(),
        Verdict::Refuted(found) => format!("refuted: {found}"),
        Verdict::Unset => "not yet set".to_owned(),
        Verdict::Unchecked(why) => format!("not checked: {why}"),
    };
    check
        .verdicts()
        .iter()
        .map(|(name, verdict)| (*name, describe(verdict)))
        .collect()
}

/// Returns the addresses by their names in package runtime.
fn named(globals: &Globals) -> BTreeMap<&'static str, Option<String>> {
    [
        ("sched", globals.sched),
        ("sched.timeToRun", globals.time_to_run),
        ("allp", globals.allp),
        ("allgs", globals.allgs),
        ("allm", globals.allm),
        ("gomaxprocs", globals.gomaxprocs),
    ]
    .into_iter()
    .map(|(name, address)| (name, address.map(|address| format!("{address:#x}"))))
    .collect()
}
