//! What holds of the causes of any schedule: they add up, and so do goroutines' own clocks.

use super::story::check_identities;
use super::*;

/// How long goroutines were Runnable after a moment, by the changes of their states.
fn runnable_since(sched: &mut Sched, opens_ns: u64, end_ns: u64) -> u64 {
    let ended = sched.take_changes().into_iter();
    let ended = ended.filter(|change| change.from == State::Runnable);
    let ended: u64 = ended
        .map(|change| change.at_ns.saturating_sub(change.since_ns.max(opens_ns)))
        .sum();
    let ongoing = sched.goroutines().filter(|g| g.state == State::Runnable);
    ended + ongoing.map(|g| end_ns - g.since_ns.max(opens_ns)).sum::<u64>()
}

/// Random legal schedules, with threads that come and go on CPUs, stops of the world, and losses.
#[test]
fn identities_hold_of_any_schedule() {
    for seed in 1..=200 {
        let minor = 22 + (seed % 6) as u32;
        let mut maker = Maker::new(seed, minor);
        (0..600).for_each(|_| maker.step());
        let mut random = Random(seed.wrapping_mul(31) | 1);
        let mut sched = sched(minor);
        let opens_ns = maker.made[seed as usize % maker.made.len()].at_ns + seed % 3;
        sched.open_window(opens_ns);
        sched.keep_changes();
        let mut known = false;
        for transition in &maker.made {
            let at_ns = transition.at_ns;
            if random.below(3) == 0 {
                let kinds = [
                    What::ThreadOff,
                    What::ThreadOn,
                    What::ThreadWoken,
                    What::WorldStops,
                    What::WorldStarts,
                    What::WorldStarted,
                    What::MachineWanted,
                    What::GoroutineLocked,
                ];
                let what = random.pick(&kinds).unwrap();
                sched.apply(&Transition {
                    at_ns,
                    subject: match what {
                        What::GoroutineLocked => g_at(random.below(40)),
                        _ => 0,
                    },
                    detail: random.below(3),
                    tid: 100 + random.below(6) as u32,
                    what: what as u8,
                    ..Transition::default()
                });
            }
            if random.below(40) == 0 {
                let kind = Kind::Throttling(Throttling {
                    throttled_ns: random.below(200_000),
                    periods: 1,
                });
                sched.observe(&Observation { at_ns, kind });
            }
            sched.apply(transition);
            if !known && random.below(30) == 0 {
                known = true;
                sched.valid_from_ns = Some(at_ns);
            }
            if random.below(60) == 0 {
                check_identities(&sched.report(at_ns + random.below(500)).causes);
            }
        }
        let end_ns = maker.now_ns + 1_000;
        let report = sched.report(end_ns);
        check_identities(&report.causes);
        assert_eq!(
            report.causes.runnable_ns,
            runnable_since(&mut sched, opens_ns, end_ns),
            "seed {seed}: goroutines' own clocks say the same"
        );
        // The other way round: the classes that are counted are those of the Ps.
        let mut all: Vec<u64> = sched.machines.processors.keys().copied().collect();
        all.sort_unstable();
        let before: Vec<_> = all.iter().map(|p| sched.machines.processors[p].class).collect();
        all.iter().for_each(|p| sched.machines.touch(*p));
        sched.settle();
        let after: Vec<_> = all.iter().map(|p| sched.machines.processors[p].class).collect();
        assert_eq!(before, after, "seed {seed}: no P was forgotten");
    }
}
