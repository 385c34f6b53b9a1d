//! What a sample reads, and what it leaves out.

use super::program::ALLP;
use super::*;

/// The system calls and the ranges of a sample that follows another, of a program that the first sample has seen.
fn reads(program: &Program) -> (u64, usize) {
    let mut sampler = program.sampler();
    sampler.sample(1_000 * MS).unwrap();
    program.calls.set(0);
    program.ranges.set(0);
    sampler.sample(1_010 * MS).unwrap();
    (program.calls.get(), program.ranges.get())
}

#[test]
fn a_sample_takes_one_call_unless_goroutines_wait_for_ps_that_are_taken() {
    let program = Program::of(2);
    let (p, sched) = (&program.layout.p, &program.layout.sched);
    // Three ranges for each P, `sched`, and `allp`.
    assert_eq!(reads(&program), (1, 8), "nobody waits");
    // Both are taken: the Ms with what their Ps do, and what they run, of which it is read again whether they still do.
    program.put_sched(sched.runqsize, 1);
    assert_eq!(reads(&program), (3, 8 + 4 + 4));
    program.put(MS_AT + u64::from(program.layout.m.curg), 0);
    program.put(MS_AT + STRIDE + u64::from(program.layout.m.curg), 0);
    assert_eq!(reads(&program), (2, 8 + 4), "they run nothing");
    program.put_p(1, p.status, 0);
    assert_eq!(reads(&program), (1, 8), "a P is idle");
    program.put_p(1, p.status, 1);
    program.put_sched(sched.gcwaiting, 1);
    assert_eq!(reads(&program), (1, 8), "the world stops");
}

#[test]
fn nothing_is_asked_of_the_kernel_where_nobody_waits() {
    // There are no files of threads.
    let program = Program::of(2);
    fs::remove_dir_all(program.tasks.path()).unwrap();
    assert_eq!(sampled(&program).by_cause, []);
    program.put_sched(program.layout.sched.runqsize, 1);
    assert_eq!(sampled(&program).by_cause, [(Cause::Unknown as u8, 10 * MS)]);
}

#[test]
fn of_idle_ps_little_is_read_until_one_is_not_idle_or_something_is_queued() {
    let program = Program::of(64);
    let (p, sched) = (&program.layout.p, &program.layout.sched);
    (0..64).for_each(|n| program.put_p(n, p.status, 0));
    program.put_sched(sched.npidle, 64);
    assert_eq!(reads(&program), (1, 2));
    let mut sampler = program.sampler();
    let mut sample = |at_ms: u64| {
        program.calls.set(0);
        program.ranges.set(0);
        sampler.sample(at_ms * MS).unwrap();
        let sums = sampler.finish().map(|seen| sums(Some(seen))).unwrap_or_default();
        (program.ranges.get(), sums)
    };
    sample(1_000);
    // What they run meanwhile counts when it is read, after 50 ms.
    program.put_p(7, p.schedtick, 30);
    let (mut ranges, mut executed) = (Vec::new(), 0);
    for n in 1..=5 {
        let (read, sums) = sample(1_000 + 10 * n);
        assert_eq!((sums.samples, sums.length_ns), (1, 10 * MS));
        assert_eq!(sums.runnable_ns, 0);
        ranges.push(read);
        executed += sums.executed;
    }
    let all = 3 * 64 + 2;
    assert_eq!((ranges, executed), (vec![2, 2, 2, 2, all], 30));
    // A P runs a goroutine, and another one is in its queue.
    program.put_p(3, p.status, 1);
    program.put_p(3, p.runqtail, 1);
    program.put_sched(sched.npidle, 63);
    let (read, sums) = sample(1_060);
    assert_eq!(read, 2 + all);
    assert_eq!(sums.by_cause, [(Cause::NoThreadWoken as u8, 10 * MS)]);
    // It is idle again, and all is read once more before that is relied on.
    program.put_p(3, p.status, 0);
    program.put_p(3, p.runqtail, 0);
    program.put_sched(sched.npidle, 64);
    assert_eq!(sample(1_070).0, all);
    assert_eq!(sample(1_080).0, 2);
    // One lies in the global queue, and nobody was woken for it.
    program.put_sched(sched.runqsize, 1);
    let (read, sums) = sample(1_090);
    assert_eq!(read, 2 + all);
    assert_eq!(sums.by_cause, [(Cause::NoThreadWoken as u8, 10 * MS)]);
}

#[test]
fn ps_that_are_others_now_are_looked_for_in_the_same_sample() {
    let program = Program::of(2);
    let (p, sched) = (&program.layout.p, &program.layout.sched);
    program.put_sched(sched.runqsize, 1);
    let mut sampler = program.sampler();
    sampler.sample(1_000 * MS).unwrap();
    program.resize(3);
    program.put_p(2, p.runqtail, 4);
    program.calls.set(0);
    sampler.sample(1_010 * MS).unwrap();
    let sums = sums(sampler.finish());
    assert_eq!((sums.samples, sums.torn, sums.runnable_ns), (1, 0, 50 * MS));
    // Once in vain; the slice and its elements, and all again; the Ms and the gs.
    assert_eq!(program.calls.get(), 1 + 2 + 1 + 2);
    // The same where all of them are idle.
    (0..3).for_each(|n| program.put_p(n, p.status, 0));
    program.put_p(2, p.runqtail, 0);
    program.put_sched(sched.runqsize, 0);
    program.put_sched(sched.npidle, 3);
    sampler.sample(1_020 * MS).unwrap();
    // The array was moved, and has as many.
    let elsewhere = ARRAY + 0x4000;
    (0..3).for_each(|n| program.put(elsewhere + 8 * n, PS + n * P_STRIDE));
    program.put(ALLP, elsewhere);
    program.calls.set(0);
    sampler.sample(1_030 * MS).unwrap();
    assert_eq!(program.calls.get(), 1 + 1 + 2 + 1);
    program.calls.set(0);
    sampler.sample(1_040 * MS).unwrap();
    assert_eq!(program.calls.get(), 1);
}

#[test]
fn a_thread_that_may_not_read_any_more_says_so_and_hands_over_what_it_has() {
    let program = Program::of(2);
    program.most_calls.set(40);
    let (layout, threads, pid) = (program.layout.clone(), program.threads(), std::process::id());
    let sampler = CauseSampler::new(program, pid, &globals(), 0, &layout).unwrap();
    let mut sampling = Sampling::start(sampler.with_threads(threads), pid, 1_000).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while sampling.failure().is_none() {
        assert!(Instant::now() < until, "it never ends");
        std::thread::sleep(Duration::from_millis(5));
    }
    let seen = sampling.finish();
    assert_eq!(sampling.failure(), Some(&ReadError::NotPermitted { pid: 1 }));
    let samples: u64 = seen.into_iter().map(|seen| sums(Some(seen)).samples).sum();
    // Two calls look for the Ps, and the first sample stands for no time.
    assert_eq!(samples, 40 - 2 - 1);
}
