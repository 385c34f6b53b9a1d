//! How many goroutines live and in which states, on variables of a runtime that lie in this process's memory.

use std::collections::BTreeMap;

use super::*;

const DEAD: u32 = 6;
const SYSCALL: u32 = 3;
const WAITING: u32 = 4;
const RUNNABLE: u32 = 1;

/// The variables of a runtime of Go 1.27.3 in this very process.
struct Runtime {
    globals: Globals,
    _structs: Vec<Vec<u8>>,
    _gs: BTreeMap<u32, Vec<u8>>,
    _arrays: Vec<Vec<u64>>,
}

impl Runtime {
    /// `statuses` are those of all gs. `free` are the lengths of the free lists: gs with a stack, without one, and those of
    /// the only P; `ngsys` of those that live are the runtime's own.
    fn new(statuses: &[u32], free: [u32; 3], ngsys: u32) -> Self {
        let layout = layout();
        let put = |bytes: &mut Vec<u8>, at: Option<u32>, value: u32| {
            let at = at.expect("a field of Go 1.27.3") as usize;
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        let mut sched = vec![0; layout.sched.size as usize];
        let mut p = vec![0; 8192];
        put(&mut sched, layout.sched.gfree_stack, free[0]);
        put(&mut sched, layout.sched.gfree_no_stack, free[1]);
        put(&mut p, layout.p.gfree, free[2]);
        put(&mut sched, Some(layout.sched.ngsys), ngsys);
        // All gs of one status are the same one: only that is read of them.
        let mut gs: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for status in statuses {
            gs.entry(*status).or_insert_with(|| {
                let mut g = vec![0; layout.g.size as usize];
                put(&mut g, Some(layout.g.atomicstatus), *status);
                g
            });
        }
        let allgs: Vec<u64> = statuses.iter().map(|status| gs[status].as_ptr() as u64).collect();
        let allp = vec![p.as_ptr() as u64];
        let slice = |of: &Vec<u64>| vec![of.as_ptr() as u64, of.len() as u64, of.len() as u64];
        let (allgs_slice, allp_slice) = (slice(&allgs), slice(&allp));
        let globals = Globals {
            sched: Some(sched.as_ptr() as u64),
            allp: Some(allp_slice.as_ptr() as u64),
            allgs: Some(allgs_slice.as_ptr() as u64),
            ..Globals::default()
        };
        std::hint::black_box(Self {
            globals,
            _structs: vec![sched, p],
            _gs: gs,
            _arrays: vec![allgs, allp, allgs_slice, allp_slice],
        })
    }

    /// A source that reads one batch of gs, and no more.
    fn source(&self, layout: Layout) -> PassiveSource<ProcessMemory> {
        let memory = ProcessMemory::new(std::process::id());
        let mut source = PassiveSource::new(memory, &self.globals, 0, Some(layout), 27);
        source.allow_walk(Duration::ZERO);
        source
    }
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn after_a_burst_the_counters_say_how_many_live() {
    let mut statuses = vec![DEAD; 50_000];
    statuses[0] = SYSCALL;
    for n in 1..=6 {
        statuses[n * 7_001] = WAITING;
    }
    let runtime = Runtime::new(&statuses, [40_000, 9_000, 993], 4);
    let mut source = runtime.source(layout());
    let mut with_first = 0;
    for n in 1..=50 {
        let snapshot = source.snapshot(n * SECOND).unwrap();
        assert_eq!(
            (snapshot.goroutines_live, snapshot.goroutines_user),
            (Some(7), Some(3))
        );
        assert_eq!(
            (
                snapshot.allgs,
                snapshot.goroutines_read,
                snapshot.goroutines_sampled
            ),
            (Some(50_000), Some(1024), true)
        );
        let states = &snapshot.goroutines_by_state;
        let sum: u64 = states.iter().map(|(_, count)| count).sum();
        // Of two states with half each, both are rounded up.
        assert!(states.is_empty() || (7..=8).contains(&sum), "{states:?}");
        for (state, low, high) in &snapshot.goroutines_by_state_range {
            assert!(1 <= *low && low <= high && *high <= 7, "{state}: {low} to {high}");
        }
        with_first += u64::from(states.iter().any(|(state, _)| state == "syscall"));
    }
    // A sample of one in 49 has it once in 49 times; it was in each one when samples began at the front.
    assert!(with_first <= 15, "the first g was in {with_first} of 50 samples");
}

#[test]
fn a_sample_estimates_the_states_and_how_sure_it_is() {
    let statuses: Vec<u32> = (0..100_000)
        .map(|n| match n % 10 {
            0..6 => WAITING,
            6..8 => RUNNABLE,
            _ => DEAD,
        })
        .collect();
    let runtime = Runtime::new(&statuses, [10_000, 5_000, 5_000], 4);
    let mut source = runtime.source(layout());
    let mut right = 0;
    for n in 1..=40 {
        let snapshot = source.snapshot(n * SECOND).unwrap();
        assert_eq!(snapshot.goroutines_live, Some(80_000));
        let states = &snapshot.goroutines_by_state;
        let sum: u64 = states.iter().map(|(_, count)| count).sum();
        assert!(sum.abs_diff(80_000) <= 2, "{states:?}");
        let waiting = snapshot
            .goroutines_by_state_range
            .iter()
            .find(|(state, ..)| state == "waiting");
        let (_, low, high) = waiting.expect("six in ten");
        right += u64::from((*low..=*high).contains(&60_000));
        assert!(
            (2_000..8_000).contains(&(high - low)),
            "an interval from {low} to {high}"
        );
    }
    assert!(right >= 32, "{right} of 40 intervals hold what 38 should");
}

#[test]
fn where_all_gs_were_read_nothing_is_estimated() {
    let statuses: Vec<u32> = [DEAD, WAITING, WAITING, RUNNABLE].repeat(250);
    let runtime = Runtime::new(&statuses, [200, 30, 20], 5);
    let snapshot = runtime.source(layout()).snapshot(SECOND).unwrap();
    assert!(!snapshot.goroutines_sampled);
    assert_eq!(
        snapshot.goroutines_by_state,
        [("runnable".to_owned(), 250), ("waiting".to_owned(), 500)]
    );
    assert_eq!(snapshot.goroutines_by_state_range, []);
    assert_eq!(
        (snapshot.goroutines_live, snapshot.goroutines_user),
        (Some(750), Some(745))
    );
    assert_eq!(snapshot.goroutines_live_range, None);
}

#[test]
fn without_the_counters_all_that_live_are_an_estimate_too() {
    let statuses: Vec<u32> = [DEAD, WAITING].repeat(25_000);
    let runtime = Runtime::new(&statuses, [25_000, 0, 0], 0);
    let mut layout = layout();
    layout.p.gfree = None;
    let snapshot = runtime.source(layout).snapshot(SECOND).unwrap();
    assert_eq!((snapshot.goroutines_live, snapshot.goroutines_user), (None, None));
    let (low, high) = snapshot.goroutines_live_range.expect("an interval");
    let [(_, waiting)] = &snapshot.goroutines_by_state[..] else {
        panic!("{snapshot:?}");
    };
    assert!(low <= *waiting && *waiting <= high);
    assert!((20_000..30_000).contains(waiting), "{waiting} of 25,000");
}

#[test]
fn more_free_gs_than_were_made_are_no_reason_to_panic() {
    let runtime = Runtime::new(&[WAITING, DEAD], [u32::MAX, 0x7fff_ffff, 0x7fff_ffff], u32::MAX);
    let snapshot = runtime.source(layout()).snapshot(SECOND).unwrap();
    assert_eq!(
        (snapshot.goroutines_live, snapshot.goroutines_user),
        (Some(1), Some(1))
    );
}
