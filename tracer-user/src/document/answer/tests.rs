use super::*;
use crate::document::{capture::CaptureInfo, fixtures};
use crate::plan::Mode;

fn answer(capture: &Capture) -> Vec<String> {
    of(capture).iter().map(|line| line.raw().to_owned()).collect()
}

/// `full` with other figures.
fn changed(change: impl FnOnce(&mut Capture)) -> Vec<String> {
    let mut capture = fixtures::causes::full();
    change(&mut capture);
    answer(&capture)
}

fn set(capture: &mut Capture, cause: Cause, total_ns: u64) {
    capture.by_cause.entry(ByName(cause)).or_default().total_ns = total_ns;
}

#[test]
fn full_says_why_behind_whom_and_which_wait_was_the_longest() {
    assert_eq!(
        answer(&fixtures::causes::full()),
        [
            "runnable goroutines waited 228 s in 5.0 s (45.6 at a time): 71 % all Ps busy, mostly with goroutines made \
             in main.serve; 22 % the kernel ran something else; 5 % Ps did the garbage collector's work; not counted: \
             20.0 s after voluntary yields (runtime.Gosched)",
            "the longest wait: goid 4182 (made in net/http.(*Server).Serve) waited 12.1 ms after chan receive, woken by \
             goid 7 (made in main.serve), which was woken by goid 1 (the main goroutine), which was woken by the \
             network poller: 9.8 ms throttled, 2.3 ms with all Ps busy, last behind goid 9 (made in \
             ..path/to/a/package/v2.(*Dispatcher[...]).startWorkers.func1)",
        ]
    );
}

#[test]
fn at_most_four_causes_of_at_least_5_percent_are_named_the_largest_first() {
    let lines = changed(|capture| {
        capture.by_cause.clear();
        capture.culprits.clear();
        for (cause, percent) in [
            (Cause::Stw, 4),
            (Cause::Gc, 11),
            (Cause::PBusy, 13),
            (Cause::Scheduler, 14),
            (Cause::Spinning, 10),
            (Cause::OsPreempted, 48),
            (Cause::Yielded, 5),
        ] {
            set(capture, cause, percent * 10_000_000);
        }
    });
    assert_eq!(
        lines[0],
        "runnable goroutines waited 1.0 s in 5.0 s (0.2 at a time): 48 % the kernel ran something else; 14 % the \
         scheduler was choosing the next goroutine; 13 % all Ps busy; 11 % Ps did the garbage collector's work"
    );
}

#[test]
fn who_held_the_ps_is_named_if_it_was_a_large_part_and_not_the_runtime() {
    let clause = |site: &str, held_ns| {
        let lines = changed(|capture| {
            capture.culprits.truncate(1);
            capture.culprits[0].creation_site = Some(site.into());
            capture.culprits[0].held_ns = held_ns;
        });
        let (_, with) = lines[0].split_once("all Ps busy").unwrap();
        with.split(';').next().unwrap().to_owned()
    };
    assert_eq!(
        clause("main.a", 161_880_000_000),
        ", mostly with goroutines made in main.a"
    );
    assert_eq!(
        clause("main.a", 48_564_000_000),
        ", 30 % of it with goroutines made in main.a"
    );
    assert_eq!(clause("main.a", 16_188_000_000), "");
    assert_eq!(clause("runtime.gcBgMarkStartWorkers", 161_880_000_000), "");
    assert_eq!(
        clause("runtime.rt0_go", 161_880_000_000),
        ", mostly with the main goroutine"
    );
    // A name with a blank cannot begin a line.
    assert!(clause("main.a b", 161_880_000_000).ends_with("main.a\u{a0}b"));
}

#[test]
fn what_is_lost_or_unknown_has_a_line_where_it_matters() {
    let last = |change: &dyn Fn(&mut Capture)| changed(change).pop().unwrap();
    let unknown = |capture: &mut Capture| set(capture, Cause::Unknown, 6_000_000_000);
    assert_eq!(last(&unknown), "3 % of the waiting has no known cause");
    let lost = |capture: &mut Capture| {
        capture.capture.lost_events = 12;
        capture.capture.complete = false;
    };
    assert_eq!(last(&lost), "incomplete: 12 waits are missing");
    let both = |capture: &mut Capture| {
        lost(capture);
        unknown(capture);
        let causes = capture.full.as_mut().unwrap().causes.as_mut().unwrap();
        causes.before_known_ns = 5_000_000_000;
    };
    assert_eq!(
        last(&both),
        "incomplete: 12 waits are missing; 3 % of the waiting has no known cause, most of it from before all states \
         were known"
    );
    let cut = |capture: &mut Capture| capture.capture.complete = false;
    assert_eq!(last(&cut), "incomplete: not all was captured");
    assert!(last(&|_| ()).starts_with("the longest wait: "));
    let short = |capture: &mut Capture| capture.full.as_mut().unwrap().slowest[0].duration_ns = LONG_NS - 1;
    assert!(last(&short).starts_with("runnable goroutines waited "));
}

#[test]
fn an_estimate_has_its_interval_and_its_number_of_samples() {
    assert_eq!(
        answer(&fixtures::causes::estimated()),
        [
            "runnable goroutines waited about 123 s in 10.0 s (12.3 at a time, from 996 samples): about 71 % \
             (64 to 78 %) all Ps busy; about 22 % (16 to 28 %) the kernel ran something else",
            "on average a wait took at most about 6.1 ms",
            "incomplete: not all was captured; 3 % of the waiting has no known cause",
        ]
    );
    let mut idle = fixtures::causes::estimated();
    idle.capture.complete = true;
    idle.cause_estimate = Some(crate::document::cause_estimate::CauseEstimate {
        samples: 80,
        torn: 20,
        ..Default::default()
    });
    assert_eq!(
        answer(&idle),
        [
            "no goroutine was waiting to run in any of 80 samples of the run queues",
            "20 of 100 samples were left out, since the Ps changed meanwhile",
        ]
    );
}

#[test]
fn exact_says_how_long_and_which_mode_would_say_why() {
    let lines = answer(&fixtures::exact());
    assert_eq!(
        lines,
        [
            "runnable goroutines waited 822 ms in 10.0 s (0.1 at a time); --mode full says why",
            "incomplete: 3 waits are missing",
        ]
    );
    let sweeping = fixtures::sweeping().capture(Mode::Exact, |_| {});
    assert_eq!(
        answer(&sweeping),
        [
            "runnable goroutines waited 210 ms in 10.0 s (under 0.1 at a time); not counted: 98.0 ms after voluntary \
             yields (runtime.Gosched); --mode full says why"
        ]
    );
}

#[test]
fn who_only_yields_has_an_answer_too_and_who_waits_for_nothing_has_none() {
    let lines = changed(|capture| capture.by_cause.retain(|cause, _| **cause == Cause::Yielded));
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("most of the time in which goroutines could run, 20.0 s of 20.0 s, was after")
    );
    for capture in [fixtures::idle(), fixtures::sampled(), fixtures::passive()] {
        assert!(of(&capture).is_empty());
    }
    let info = CaptureInfo::new(
        CaptureMode::Init,
        jiff::Timestamp::UNIX_EPOCH,
        1,
        crate::stream::EndedBy::Starts,
    );
    assert!(of(&Capture::new(fixtures::target(), info)).is_empty());
}
