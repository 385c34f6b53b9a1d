//! `gmpscope inspect PID|FILE`: looks at a target through every room, and attaches nothing.

mod activity;
mod modes;

use std::collections::BTreeMap;

use crate::{
    cli::{FormatArg, InspectArgs, Subject},
    error::{Error, Result},
    memory::ProcessMemory,
    output::{
        inspection::{Binary, Inspection, Layouts, SCHEMA},
        sink::Sink,
    },
    target::{
        Arch, Globals, Target,
        binary::{BuildMode, GoBinary},
        globals,
        layout::{self, Layout, LiveCheck, Verdict},
    },
};

/// Prints what the subject is and what can be traced.
///
/// # Errors
/// When it is not a traceable Go binary or process.
pub fn run(args: &InspectArgs) -> Result<()> {
    // Before the work, which takes a second: a file that cannot be written fails here.
    let mut sink = Sink::open(args.output.as_deref())?;
    let inspection = inspect(&args.subject())?;
    let text = match args.format {
        FormatArg::Text => inspection.text(),
        FormatArg::Json => serde_json::to_string_pretty(&inspection)
            .map(|text| text + "\n")
            .map_err(|cause| Error::failed(format!("cannot write the answer as JSON: {cause}")))?,
    };
    let _ = sink.write(&text)?;
    sink.finish()
}

/// What was found in the file.
struct Found {
    binary: Binary,
    layout: Option<Layout>,
    layouts: Layouts,
    globals: Globals,
    in_memory: Option<BTreeMap<&'static str, String>>,
    plans: modes::Plans,
}

fn inspect(subject: &Subject) -> Result<Inspection> {
    let (target, found) = match subject {
        Subject::Pid(pid) => {
            let pid = i32::try_from(*pid).map_err(|_| {
                Error::not_traceable(format!("there is no process {pid}: no PID is so large"))
            })?;
            Target::of_process(pid, look)?
        }
        Subject::File(path) => Target::of_file(path, look)?,
    };
    let process = target
        .process
        .as_ref()
        .map(|_| activity::watch(&target, &found))
        .transpose()?;
    let modes = modes::all(
        &found,
        process.as_ref().and_then(|process| process.activity.as_ref()),
    );
    Ok(Inspection {
        schema: SCHEMA,
        binary: found.binary,
        process,
        layouts: found.layouts,
        globals: named(&found.globals),
        globals_in_memory: found.in_memory,
        modes,
    })
}

fn look(target: &Target, binary: &GoBinary<'_>) -> Result<Found> {
    let facts = binary.facts();
    let (version, tags, elf) = (&facts.version, facts.build_tags(), binary.image().data);
    let pid = target
        .process
        .as_ref()
        .and_then(|process| u32::try_from(process.pid()).ok());
    let (found, globals, in_memory) = match pid {
        Some(pid) => {
            let memory = ProcessMemory::new(pid);
            let live = layout::of_live(
                version,
                facts.arch,
                &tags,
                elf,
                &memory,
                target.load_bias,
                |layout| globals::find(binary, layout),
            );
            (live.layout, live.globals, Some(verdicts(&live.check)))
        }
        None => {
            let layout = layout::find_or_dwarf(version, facts.arch, &tags, elf);
            let globals = globals::find(binary, layout.as_ref().ok().map(|(layout, _)| layout));
            (layout, globals, None)
        }
    };
    let (layout, layouts) = match found {
        Ok((layout, source)) => (
            Some(layout),
            Layouts {
                source: Some(source.to_string()),
                problem: None,
            },
        ),
        Err(unknown) => (
            None,
            Layouts {
                source: None,
                problem: Some(unknown.to_string()),
            },
        ),
    };
    let plans = modes::Plans::of(binary, layout.as_ref(), &globals);
    Ok(Found {
        binary: Binary {
            path: target.file.name().to_owned(),
            size: target.file.len(),
            go_version: facts.version.raw.trim_start_matches("go").to_owned(),
            arch: facts.arch.name(),
            build_mode: match facts.build_mode {
                BuildMode::Exe => "exe",
                BuildMode::Pie => "pie",
            },
            stripped: facts.stripped,
            cgo: facts.cgo,
            pgo: facts.pgo,
            external_linking: facts.external_linking,
            dynamic: facts.dynamic,
            main_path: facts.main_path.clone(),
        },
        layout,
        layouts,
        globals,
        in_memory,
        plans,
    })
}

/// What the process's memory says of each variable.
fn verdicts(check: &LiveCheck) -> BTreeMap<&'static str, String> {
    let told = |verdict: &Verdict| match verdict {
        Verdict::Confirmed => "confirmed".to_owned(),
        Verdict::Refuted(found) => format!("refuted: {found}"),
        Verdict::Unset => "not yet set".to_owned(),
        Verdict::Unchecked(why) => format!("not checked: {why}"),
    };
    check
        .verdicts()
        .iter()
        .map(|(name, verdict)| (*name, told(verdict)))
        .collect()
}

/// The addresses by their names in package runtime.
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

/// The processor that this program was built for.
fn our_arch() -> Option<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Arch::Amd64),
        "aarch64" => Some(Arch::Arm64),
        _ => None,
    }
}
