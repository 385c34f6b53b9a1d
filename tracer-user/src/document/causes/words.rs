//! Puts waits into words: figures, goroutines and whole sentences, as the answer and the text have them.

use std::cmp::Reverse;

use super::{GoroutineInfo, RunnableWait, WakerInfo};
use crate::escape::Untrusted;
use crate::model::sched::Cause;
use crate::stream::Origin;
use crate::stream::buckets::UNBOUNDED_NS;

/// Most causes of one wait that are named.
const CAUSES: usize = 3;
/// A cause of one wait is named if it has at least one part in so many of it.
const SMALLEST_PART: u64 = 50;
/// Most characters of a name in a sentence.
const NAME: usize = 60;
/// A blank at which no line is broken: a name with blanks stays within its sentence.
const NO_BREAK: &str = "\u{a0}";
/// The function that makes the main goroutine.
const MAIN_MADE_IN: &str = "runtime.rt0_go";

/// A duration with its unit: `479 ns`, `1.3 us`, `33.5 ms`, `228 s`.
pub fn time(ns: u64) -> String {
    if ns >= UNBOUNDED_NS {
        return "more than 292 years".to_owned();
    }
    let (unit, name) = match ns {
        0..1_000 => return format!("{ns} ns"),
        // From where three digits would round up to the next unit.
        1_000..999_500 => (1e3, "us"),
        999_500..999_500_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    match ns as f64 / unit {
        value if value < 99.95 => format!("{value:.1} {name}"),
        value => format!("{value:.0} {name}"),
    }
}

/// A share between 0 and 1 as a percentage: `71 %`. A share above 0 is never `0 %`, and one below 1 never `100 %`.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p > 0.0 && p < 1.0 => "under 1 %".to_owned(),
        p if (99.5..100.0).contains(&p) => "over 99 %".to_owned(),
        p => format!("{p:.0} %"),
    }
}

/// The name of a function, for a sentence, not escaped; a long one keeps its end.
fn function(name: &Untrusted) -> String {
    let raw = name.raw();
    let length = raw.chars().count();
    let shown = match length <= NAME {
        true => raw.to_owned(),
        false => format!("..{}", raw.chars().skip(length - NAME + 2).collect::<String>()),
    };
    shown.replace(' ', NO_BREAK)
}

/// The goroutines that a function made, not escaped: `goroutines made in main.serve`.
pub(in crate::document) fn goroutines_of(creation_site: Option<&Untrusted>) -> String {
    match creation_site {
        Some(site) if site.raw() == MAIN_MADE_IN => "the main goroutine".to_owned(),
        Some(site) => format!("goroutines made in {}", function(site)),
        None => "goroutines whose go statement is not known".to_owned(),
    }
}

/// Whether a function of the runtime made these goroutines, other than the main one: workers of the garbage collector,
/// for example.
pub(in crate::document) fn are_of_runtime(creation_site: Option<&Untrusted>) -> bool {
    let site = creation_site.map_or("", Untrusted::raw);
    site.starts_with("runtime.") && site != MAIN_MADE_IN
}

/// One goroutine, not escaped: `goid 17 (made in main.serve)`.
fn goroutine(goroutine: &GoroutineInfo) -> String {
    let who = match goroutine.goid {
        Some(goid) => format!("goid {goid}"),
        None => "a goroutine".to_owned(),
    };
    match &goroutine.creation_site {
        Some(site) if site.raw() == MAIN_MADE_IN => format!("{who} (the main goroutine)"),
        Some(site) => format!("{who} (made in {})", function(site)),
        None => who,
    }
}

/// One of the longest waits as a sentence without its full stop: `goid 4182 (made in main.serve) waited 12.1 ms after
/// chan receive, woken by goid 7 (made in main.produce): 9.8 ms throttled, 2.3 ms with all Ps busy, last behind goid 9
/// (made in main.crunch)`.
pub fn sentence(wait: &RunnableWait) -> Untrusted {
    let who = goroutine(&wait.who);
    let duration = time(wait.duration_ns);
    let mut sentence = match wait.ongoing {
        true => format!("{who} has waited {duration} so far"),
        false => format!("{who} waited {duration}"),
    };
    sentence.push_str(&after(wait));
    sentence.push_str(&woken_by(wait));
    let causes = causes(wait);
    if !causes.is_empty() {
        sentence.push_str(": ");
        sentence.push_str(&causes.join(", "));
    }
    sentence.into()
}

/// What the goroutine did before it became runnable.
fn after(wait: &RunnableWait) -> String {
    if let Some(reason) = &wait.after {
        return format!(" after {}", reason.raw());
    }
    let after = match wait.origin.map(|origin| *origin) {
        Some(Origin::Created) => "its go statement",
        Some(Origin::Preempted) => "it was preempted",
        Some(Origin::Yielded) => "it yielded",
        Some(Origin::Syscall) => "a system call",
        Some(Origin::Netpoll) => "the network poller found it ready",
        Some(Origin::Unblocked) | None => return String::new(),
    };
    format!(" after {after}")
}

/// The chain of those who woke it.
fn woken_by(wait: &RunnableWait) -> String {
    let is_new = wait.origin.is_some_and(|origin| *origin == Origin::Created);
    let mut text = String::new();
    for (n, waker) in wait.wakers.iter().enumerate() {
        text.push_str(match n {
            0 if is_new => ", made by ",
            0 => ", woken by ",
            _ => ", which was woken by ",
        });
        text.push_str(&match waker {
            WakerInfo::Goroutine(who) => goroutine(who),
            WakerInfo::Netpoll => "the network poller".to_owned(),
            WakerInfo::Scheduler => "a timer or the scheduler".to_owned(),
            WakerInfo::WithoutP => "a thread without a P".to_owned(),
        });
    }
    text
}

/// The largest causes of a wait: `9.8 ms throttled`. Where all Ps were busy, the goroutine that ran just before it is only
/// the last of those that were in its way.
fn causes(wait: &RunnableWait) -> Vec<String> {
    let mut causes: Vec<(Cause, u64)> = wait.causes_ns.iter().map(|(cause, ns)| (**cause, *ns)).collect();
    causes.sort_by_key(|(cause, ns)| (Reverse(*ns), *cause));
    let least = wait.duration_ns / SMALLEST_PART;
    let named = causes.into_iter().filter(|(_, ns)| *ns > 0 && *ns >= least);
    let named = named.take(CAUSES);
    named
        .map(|(cause, ns)| {
            let part = format!("{} {}", time(ns), of_one(cause));
            match (&wait.behind, cause) {
                (Some(behind), Cause::PBusy) => format!("{part}, last behind {}", goroutine(behind)),
                _ => part,
            }
        })
        .collect()
}

/// The cause of a part of one wait: `9.8 ms throttled`.
const fn of_one(cause: Cause) -> &'static str {
    match cause {
        Cause::Yielded => "of its own will",
        Cause::Stw => "while the world was stopped",
        Cause::CgroupThrottled => "throttled",
        Cause::LockedThread => "for the thread that it is locked to",
        Cause::ThreadWakeup => "for a thread to wake up",
        Cause::Spinning => "until a thread had found it",
        Cause::NoThreadWoken => "beside an idle P that no thread was woken for",
        Cause::PBusy => "with all Ps busy",
        Cause::Gc => "behind the garbage collector",
        Cause::OsPreempted => "while the kernel ran something else",
        Cause::PInSyscall => "behind Ps in system calls",
        Cause::ThreadBlocked => "behind threads that slept with their P",
        Cause::Scheduler => "while the scheduler was choosing the next goroutine",
        Cause::Unknown => "for a reason that is not known",
    }
}
