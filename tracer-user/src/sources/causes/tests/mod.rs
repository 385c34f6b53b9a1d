//! Samples of made-up memory, of whatever lies in memory, and of a thread that takes them.

mod program;
mod reads;

use std::fs;
use std::time::{Duration, Instant};

use self::program::{ARRAY, GS, MS_AT, P_STRIDE, PS, Program, STRIDE, THREAD, globals, layout};
use super::*;
use crate::binary::Globals;
use crate::clock::now_ns;
use crate::model::sched::{Cause, Reasons};
use crate::process::memory::{ProcessMemory, ReadError};
use crate::stream::causes::CauseSamples;
use crate::stream::{Kind, Observation};

const MS: u64 = 1_000_000;

fn sums(seen: Option<Observation>) -> CauseSamples {
    match seen.map(|seen| seen.kind) {
        Some(Kind::CauseSamples(sums)) => sums,
        other => panic!("{other:?}"),
    }
}

/// Takes two samples 10 ms apart, and returns what the second says.
fn sampled(program: &Program) -> CauseSamples {
    let mut sampler = program.sampler();
    sampler.sample(1_000 * MS).unwrap();
    sampler.sample(1_010 * MS).unwrap();
    sums(sampler.finish())
}

#[test]
fn goroutines_in_all_queues_wait_behind_those_that_run() {
    let program = Program::of(4);
    let (p, sched) = (&program.layout.p, &program.layout.sched);
    program.put_sched(sched.runqsize, 3);
    // Indexes that have wrapped, a next one, and a head that has passed its tail.
    program.put_p(0, p.runqhead, u32::MAX - 1);
    program.put_p(0, p.runqtail, 3);
    program.put_p(1, p.runnext, 7);
    program.put_p(2, p.runqhead, 9);
    program.put_p(2, p.runqtail, 8);
    let sums = sampled(&program);
    assert_eq!((sums.samples, sums.torn), (1, 0));
    assert_eq!((sums.length_ns, sums.some_ns), (10 * MS, 10 * MS));
    assert_eq!(sums.runnable_ns, 9 * 10 * MS);
    assert_eq!(sums.by_cause, [(Cause::PBusy as u8, 90 * MS)]);
    // One that marks, one in a system call as up to Go 1.25 and one as from Go 1.26 on. The first two of those that are
    // held stand for the third.
    program.put_p(0, p.gc_mark_worker_mode, 2);
    program.put_p(2, p.status, 2);
    program.put_half(GS + STRIDE + u64::from(program.layout.g.atomicstatus), 0x1003);
    let expected = [
        (Cause::Gc as u8, 33_750_000),
        (Cause::PInSyscall as u8, 56_250_000),
    ];
    assert_eq!(sampled(&program).by_cause, expected);
    // An M that runs none is between two; one that has given up its P does not count.
    program.put(MS_AT + u64::from(program.layout.m.curg), 0);
    program.put(MS_AT + STRIDE + u64::from(program.layout.m.p), 0);
    let causes: Vec<u8> = sampled(&program)
        .by_cause
        .iter()
        .map(|(cause, _)| *cause)
        .collect();
    assert_eq!(causes, [Cause::PInSyscall as u8, Cause::Scheduler as u8]);
}

#[test]
fn who_is_being_parked_does_not_help_the_collector() {
    let reasons = Reasons::of(27);
    let number = |name: &str| {
        (0..=u8::MAX)
            .find(|reason| reasons.name(*reason) == name)
            .unwrap()
    };
    let one = |reason: u8| {
        let program = Program::of(1);
        let (p, g) = (&program.layout.p, &program.layout.g);
        program.put_p(0, p.runqtail, 1);
        for at in [GS, GS + STRIDE] {
            program.put_half(at + u64::from(g.waitreason), u32::from(reason));
            program.put_half(at + u64::from(g.atomicstatus), 4);
        }
        program
    };
    let assists = one(number("GC assist marking"));
    assert_eq!(sampled(&assists).by_cause, [(Cause::Gc as u8, 10 * MS)]);
    let parked = one(number("chan receive"));
    assert_eq!(sampled(&parked).by_cause, [(Cause::Scheduler as u8, 10 * MS)]);
    // It was parked between the two readings: it ran at the moment of the first.
    let parked = one(number("chan receive"));
    parked.hands_over.set(true);
    assert_eq!(sampled(&parked).by_cause, [(Cause::PBusy as u8, 10 * MS)]);
}

#[test]
fn idle_ps_and_a_stop_are_seen_without_a_look_at_the_threads() {
    let program = Program::of(2);
    let (p, sched) = (&program.layout.p, &program.layout.sched);
    program.put_sched(sched.runqsize, 1);
    program.put_p(1, p.status, 0);
    let cause = || sampled(&program).by_cause;
    assert_eq!(cause(), [(Cause::ThreadWakeup as u8, 10 * MS)]);
    program.put_sched(sched.npidle, 1);
    assert_eq!(cause(), [(Cause::NoThreadWoken as u8, 10 * MS)]);
    program.put_sched(sched.nmspinning, 1);
    assert_eq!(cause(), [(Cause::Spinning as u8, 10 * MS)]);
    program.put_sched(sched.gcwaiting, 1);
    assert_eq!(cause(), [(Cause::Stw as u8, 10 * MS)]);
    // Two samples by one call each.
    program.calls.set(0);
    sampled(&program);
    assert_eq!(
        program.calls.get(),
        2 + 2,
        "and once the slice and the addresses of the Ps"
    );
}

#[test]
fn a_sample_of_states_that_change_is_dropped_and_the_next_stands_for_its_time() {
    let program = Program::of(2);
    program.put_sched(program.layout.sched.runqsize, 2);
    let mut sampler = program.sampler();
    sampler.sample(1_000 * MS).unwrap();
    program.flickers.set(true);
    for n in 1..5 {
        sampler.sample((1_000 + 10 * n) * MS).unwrap();
    }
    program.flickers.set(false);
    program.put_p(0, program.layout.p.status, 1);
    sampler.sample(1_050 * MS).unwrap();
    let sums = sums(sampler.finish());
    assert_eq!((sums.samples, sums.torn, sums.length_ns), (1, 4, 50 * MS));
    assert_eq!(sums.runnable_ns, 2 * 50 * MS);
    // Two seconds at most, however long nothing was read, unless another bound is set; what Ps did in all of that time
    // counts in part.
    let tick = program.layout.p.schedtick;
    program.put_p(0, tick, 880);
    sampler.sample(90_050 * MS - 1_000 * MS).unwrap();
    let sums = self::sums(sampler.finish());
    assert_eq!((sums.length_ns, sums.executed), (2_000 * MS, 20));
    sampler.set_most(20_000 * MS);
    program.put_p(0, tick, 920);
    sampler.sample(129_050 * MS).unwrap();
    let sums = self::sums(sampler.finish());
    assert_eq!((sums.length_ns, sums.executed), (20_000 * MS, 20));
}

#[test]
fn switches_are_counted_of_the_ps_that_there_were() {
    let program = Program::of(2);
    let p = &program.layout.p;
    program.put_p(0, p.schedtick, u32::MAX);
    program.put_p(1, p.schedtick, 100);
    let mut sampler = program.sampler();
    sampler.sample(1_000 * MS).unwrap();
    program.put_p(0, p.schedtick, 4);
    program.put_p(1, p.schedtick, 107);
    program.put_p(2, p.schedtick, 1_000_000);
    // GOMAXPROCS grows, and falls again.
    program.resize(3);
    sampler.sample(1_010 * MS).unwrap();
    assert_eq!(sums(sampler.finish()).executed, 12);
    program.put_p(2, p.schedtick, 1_000_003);
    program.put_p(1, p.schedtick, 108);
    sampler.sample(1_020 * MS).unwrap();
    assert_eq!(sums(sampler.finish()).executed, 4);
    program.resize(1);
    program.put_p(0, p.schedtick, 6);
    program.put_p(1, p.schedtick, 500);
    sampler.sample(1_030 * MS).unwrap();
    assert_eq!(sums(sampler.finish()).executed, 2);
}

#[test]
fn a_thousand_ps_are_read_by_few_calls_and_some_stand_for_all() {
    let program = Program::of(1024);
    let p = &program.layout.p;
    for n in 0..1024 {
        program.put_p(n, p.runqtail, 2);
        program.put_p(n, p.status, if n < 512 { 1 } else { 2 });
    }
    program.calls.set(0);
    let sums = sampled(&program);
    assert_eq!(sums.runnable_ns, 2048 * 10 * MS);
    let expected = [
        (Cause::PBusy as u8, 1024 * 10 * MS),
        (Cause::PInSyscall as u8, 1024 * 10 * MS),
    ];
    assert_eq!(sums.by_cause, expected);
    // Twice three ranges for each P and two besides, 1,024 at a time, and the Ms and gs; the slice and addresses once.
    assert_eq!(program.calls.get(), 2 * (4 + 2) + 2);
    // Of each P no more than from the first to the last field that is looked at, without its queue.
    assert!(program.bytes.get() < 2 * 1024 * 500, "{}", program.bytes.get());
}

#[test]
fn ps_that_are_not_there_yet_are_looked_for_again() {
    for missing in [0, 1 << 40] {
        let program = Program::of(2);
        program.put_sched(program.layout.sched.runqsize, 1);
        program.put(ARRAY + 8, missing);
        let mut sampler = program.sampler();
        sampler.sample(1_000 * MS).unwrap();
        program.put(ARRAY + 8, PS + P_STRIDE);
        sampler.sample(1_010 * MS).unwrap();
        sampler.sample(1_020 * MS).unwrap();
        let sums = sums(sampler.finish());
        assert_eq!((sums.samples, sums.torn), (1, 1), "{missing}");
        assert_eq!(sums.by_cause, [(Cause::PBusy as u8, 10 * MS)]);
    }
}

#[test]
fn a_thread_that_waited_was_preempted_and_of_one_that_cannot_be_read_nothing_is_known() {
    let program = Program::of(1);
    program.put_sched(program.layout.sched.runqsize, 1);
    let mut sampler = program.sampler();
    sampler.sample(1_000 * MS).unwrap();
    program.put_thread("7 (worker) R 1 1", 4 * MS);
    sampler.sample(1_010 * MS).unwrap();
    let expected = [(Cause::PBusy as u8, 6 * MS), (Cause::OsPreempted as u8, 4 * MS)];
    assert_eq!(sums(sampler.finish()).by_cause, expected);
    fs::remove_dir_all(program.tasks.path().join(THREAD.to_string())).unwrap();
    assert_eq!(sampled(&program).by_cause, [(Cause::Unknown as u8, 10 * MS)]);
}

#[test]
fn where_there_are_more_ps_others_are_looked_at_after_eight_samples() {
    let program = Program::of(8);
    program.put_sched(program.layout.sched.runqsize, 1);
    let status = u64::from(program.layout.g.atomicstatus);
    (4..8).for_each(|n| program.put_half(GS + n * STRIDE + status, 3));
    let mut sampler = program.sampler();
    // Two at a time. The first sample stands for no time.
    (0..32).for_each(|n| sampler.sample((1_000 + 10 * n) * MS).unwrap());
    let expected = [
        (Cause::PBusy as u8, 150 * MS),
        (Cause::PInSyscall as u8, 160 * MS),
    ];
    assert_eq!(sums(sampler.finish()).by_cause, expected);
}

#[test]
fn a_program_in_which_nobody_waits_has_samples_and_no_causes() {
    let program = Program::of(2);
    let sums = sampled(&program);
    assert_eq!((sums.samples, sums.length_ns), (1, 10 * MS));
    assert_eq!(
        (sums.runnable_ns, sums.some_ns, sums.by_cause),
        (0, 0, Vec::new())
    );
}

#[test]
fn without_the_variables_there_is_no_sampler_and_a_process_that_is_gone_is_an_error() {
    let memory = || ProcessMemory::new(i32::MAX as u32);
    let sampler = |globals: &Globals| CauseSampler::new(memory(), i32::MAX as u32, globals, 0, &layout());
    assert!(sampler(&Globals::default()).is_none());
    let pid = i32::MAX as u32;
    let mut sampler = sampler(&globals()).unwrap();
    assert_eq!(sampler.sample(1), Err(ReadError::Gone { pid }));
}

#[test]
fn a_thread_takes_samples_until_it_is_stopped() {
    let program = Program::of(2);
    program.put_sched(program.layout.sched.runqsize, 1);
    let layout = program.layout.clone();
    let pid = std::process::id();
    let threads = program.threads();
    let sampler = CauseSampler::new(program, pid, &globals(), 0, &layout).unwrap();
    let sampler = sampler.with_threads(threads);
    let mut sampling = Sampling::start(sampler, pid, 500).unwrap();
    let (began_ns, until) = (now_ns(), Instant::now() + Duration::from_secs(30));
    let mut all = CauseSamples::default();
    let mut add = |seen: Vec<Observation>| {
        for observation in seen {
            assert!(observation.at_ns >= began_ns && observation.at_ns <= now_ns());
            all.add(&sums(Some(observation)));
        }
        all.samples
    };
    while add(sampling.take()) < 10 {
        assert!(Instant::now() < until, "no samples come");
        std::thread::sleep(Duration::from_millis(20));
    }
    add(sampling.finish());
    assert!(sampling.finish().is_empty(), "it has ended");
    let took_ns = now_ns() - began_ns;
    assert!(
        all.length_ns > took_ns / 2 && all.length_ns <= took_ns + 50 * MS,
        "{all:?}"
    );
    assert_eq!(all.by_cause, [(Cause::PBusy as u8, all.length_ns)]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever lies where the runtime's variables should be, a sample ends, and finds no more goroutines than there is
    /// room for in the queues.
    #[test]
    fn any_bytes_may_lie_where_the_variables_should_be(
        words in proptest::collection::vec(proptest::prelude::any::<u64>(), 2048),
        length in 0u64..200,
        points_to_itself: bool,
    ) {
        let mut words = words;
        let here = words.as_ptr() as u64;
        // A slice of plausible length, whose elements are whatever lies behind it.
        words[..2].copy_from_slice(&[here + 16, length]);
        if points_to_itself {
            words[2..].fill(here);
        }
        let words = std::hint::black_box(words);
        let globals = Globals { sched: Some(here), allp: Some(here), ..Globals::default() };
        let pid = std::process::id();
        let mut sampler = CauseSampler::new(ProcessMemory::new(pid), pid, &globals, 0, &layout()).unwrap();
        for n in 1..4 {
            sampler.sample(n * 10 * MS).unwrap();
        }
        let sums = sampler.finish().map(|seen| sums(Some(seen))).unwrap_or_default();
        let most = u64::from(u32::MAX >> 1) + 257 * length;
        proptest::prop_assert!(sums.runnable_ns / MS <= 20 * most + 20, "{:?}", sums);
        proptest::prop_assert!(sums.some_ns <= sums.length_ns);
        drop(words);
    }
}
