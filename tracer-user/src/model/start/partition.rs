//! Turns the marks of a start into phases, spans and moments.

use super::{Phase, PhaseKind, Span};
use crate::stream::start::{Mark, StartMark, Usage};

/// What begins with a mark; `None` for marks that begin no phase.
fn begins(mark: &StartMark, dynamic: bool) -> Option<PhaseKind> {
    Some(match mark.mark {
        Mark::Execve | Mark::ExecPrepared => PhaseKind::Exec,
        Mark::Executed if dynamic => PhaseKind::Loader,
        Mark::Entry => PhaseKind::Rt0,
        Mark::OsInit => PhaseKind::OsInit,
        Mark::SchedInit => PhaseKind::SchedInit,
        Mark::NewProc => PhaseKind::MainCreated,
        Mark::MStart => PhaseKind::MainStarted,
        Mark::RuntimeMain | Mark::InitEnd => PhaseKind::RuntimeMain,
        Mark::InitBegin => PhaseKind::Init(mark.name.clone().unwrap_or_else(|| "?".to_owned())),
        _ => return None,
    })
}

/// The phases: each from the mark that begins it to the next that begins another. Where a mark was not seen, the phase
/// before extends over its own.
pub fn partition(marks: &[(u64, StartMark)], dynamic: bool, end_ns: u64) -> Vec<Phase> {
    let first_is_exec = marks
        .first()
        .is_some_and(|(_, mark)| mark.mark == Mark::Executed && !dynamic);
    let mut begins: Vec<(u64, PhaseKind, Option<Usage>)> = marks
        .iter()
        .filter_map(|(at_ns, mark)| Some((*at_ns, begins(mark, dynamic)?, mark.usage)))
        .collect();
    if first_is_exec && let Some((at_ns, mark)) = marks.first() {
        // What is left of execve when its tracepoint is the first that was seen.
        begins.insert(0, (*at_ns, PhaseKind::Exec, mark.usage));
    }
    let last = marks.last().and_then(|(_, mark)| mark.usage);
    let ends = begins
        .iter()
        .skip(1)
        .map(|(at_ns, _, usage)| (*at_ns, *usage))
        .chain([(end_ns, last)])
        .collect::<Vec<_>>();
    begins
        .into_iter()
        .zip(ends)
        .map(|((begin_ns, kind, before), (end_ns, after))| Phase {
            kind,
            begin_ns,
            end_ns,
            usage: before.zip(after).map(|(before, after)| after.since(&before)),
        })
        .collect()
}

/// The spans: begin, end and name.
const SPANS: [(Mark, Mark, &str); 3] = [
    (Mark::MallocInitBegin, Mark::MallocInitEnd, "mallocinit"),
    (Mark::GcInitBegin, Mark::GcInitEnd, "gcinit"),
    (Mark::ProcResizeBegin, Mark::ProcResizeEnd, "procresize"),
];

/// The spans, by their begin.
pub fn spans(marks: &[(u64, StartMark)]) -> Vec<Span> {
    let at = |wanted: Mark| {
        marks
            .iter()
            .find(|(_, mark)| mark.mark == wanted)
            .map(|(at, _)| *at)
    };
    let mut spans: Vec<Span> = SPANS
        .into_iter()
        .filter_map(|(begin, end, name)| {
            let (begin_ns, end_ns) = (at(begin)?, at(end)?);
            (begin_ns <= end_ns).then_some(Span {
                name,
                begin_ns,
                end_ns,
            })
        })
        .collect();
    spans.sort_by_key(|span| span.begin_ns);
    spans
}

/// The single moments, each the first of its kind.
pub fn moments(marks: &[(u64, StartMark)]) -> Vec<(String, u64)> {
    let mut moments: Vec<(String, u64)> = Vec::new();
    for (at_ns, mark) in marks {
        let name = match mark.mark {
            Mark::Sysmon => "sysmon".to_owned(),
            Mark::PBound => format!("p_bound:{}", mark.value),
            Mark::GcStart => "first_gc".to_owned(),
            Mark::StopTheWorld => "first_stw".to_owned(),
            // The runtime's own helpers come first.
            Mark::GoStatement
                if !mark
                    .name
                    .as_deref()
                    .is_some_and(|name| name.starts_with("runtime.")) =>
            {
                "first_goroutine".to_owned()
            }
            Mark::MainMain => "main.main".to_owned(),
            Mark::LibraryReady => "library_ready".to_owned(),
            _ => continue,
        };
        if !moments.iter().any(|(known, _)| *known == name) {
            moments.push((name, *at_ns));
        }
    }
    moments
}
