//! The programs on which rules must fire, each with its twin.

use super::side::{Side, Threads};
use crate::surroundings::Quota;

/// A program with one pathology, its twin without it, and the rules that must say so.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Its name, for messages.
    pub name: &'static str,
    /// The mode in which both are captured.
    pub mode: &'static str,
    /// The rules that must fire on the program, and be silent on its twin.
    pub rules: &'static [&'static str],
    /// The program with the pathology.
    pub workload: Side,
    /// The one without.
    pub twin: Side,
    /// Whether both may run at the same time, since neither needs the CPUs for itself.
    pub at_once: bool,
}

/// Goroutines that compute, in front of a full and in front of no queue.
const CROWDED: Side = Side::of("8 goroutines compute on 2 Ps", &["-do", "computes"]);
const ROOMY: Side = Side::of("1 goroutine computes on 2 Ps", &["-do", "computes", "-twin"]);

/// Every scene.
pub static SCENES: [Scene; 13] = [
    Scene {
        name: "saturated",
        mode: "full",
        rules: &["ps-saturated", "runnable-too-long"],
        workload: CROWDED,
        twin: ROOMY,
        at_once: false,
    },
    Scene {
        name: "saturated_without_probes",
        mode: "passive",
        rules: &["ps-saturated"],
        workload: CROWDED,
        twin: ROOMY,
        at_once: false,
    },
    Scene {
        name: "throttled",
        mode: "full",
        rules: &["cgroup-throttled", "sysmon-late", "gomaxprocs-above-cgroup-limit"],
        workload: Side {
            quota: Some(Quota::of_percent(20)),
            ..Side::of(
                "goroutines compute under a quota of 0.2 CPUs",
                &["-do", "computes,wakes"],
            )
        },
        twin: Side::of("the same without a quota", &["-do", "computes,wakes"]),
        at_once: false,
    },
    Scene {
        name: "neighbour",
        mode: "full",
        rules: &["noisy-neighbour"],
        workload: Side {
            gomaxprocs: "1",
            one_cpu: Some(2),
            ..Side::of(
                "goroutines compute on a CPU that two other processes use",
                &["-do", "computes"],
            )
        },
        twin: Side {
            gomaxprocs: "1",
            one_cpu: Some(0),
            ..Side::of("the same on a CPU of its own", &["-do", "computes"])
        },
        at_once: false,
    },
    Scene {
        name: "stubborn",
        mode: "full",
        rules: &["long-stop", "not-preemptible"],
        workload: Side {
            godebug: Some("asyncpreemptoff=1"),
            ..Side::of(
                "the world is stopped while a loop of 60 ms cannot be interrupted",
                &["-do", "stops,wakes"],
            )
        },
        twin: Side::of(
            "the same, and the loop can be interrupted",
            &["-do", "stops,wakes"],
        ),
        at_once: false,
    },
    Scene {
        name: "collected",
        mode: "full",
        rules: &["gc-takes-ps"],
        workload: Side::of(
            "the collector marks 128 MB all the time, while timers wake goroutines",
            &["-do", "collects,wakes"],
        ),
        twin: Side::of(
            "the same without the collector",
            &["-do", "collects,wakes", "-twin"],
        ),
        at_once: false,
    },
    Scene {
        name: "assisting",
        mode: "full",
        rules: &["gc-assist"],
        workload: Side::of(
            "8 goroutines allocate beside one list of 64 MB",
            &["-do", "allocates"],
        ),
        twin: Side::of(
            "the same goroutines do not allocate",
            &["-do", "allocates", "-twin"],
        ),
        at_once: false,
    },
    Scene {
        name: "locks",
        mode: "full",
        rules: &["mutex-handoff"],
        workload: Side::of(
            "4 goroutines compute for 8 ms after they have unlocked a mutex",
            &["-do", "locks"],
        ),
        twin: Side::of("they sleep for 8 ms instead", &["-do", "locks", "-twin"]),
        at_once: false,
    },
    Scene {
        name: "herd",
        mode: "full",
        rules: &["thundering-herd"],
        workload: Side::of(
            "500 goroutines are woken at once, ten times in a second",
            &["-do", "herd"],
        ),
        twin: Side::of("they are woken one after the other", &["-do", "herd", "-twin"]),
        at_once: false,
    },
    Scene {
        name: "blocked",
        mode: "passive",
        rules: &["all-ms-blocked", "thread-limit"],
        workload: Side {
            threads: Threads::Near,
            ..Side::of(
                "100 goroutines sleep in system calls, with pids.max hardly above",
                &["-do", "blocks", "-goroutines", "100"],
            )
        },
        twin: Side {
            threads: Threads::Far,
            ..Side::of(
                "they wait for timers, with pids.max far above",
                &["-do", "blocks", "-goroutines", "100", "-twin"],
            )
        },
        at_once: true,
    },
    Scene {
        name: "leaking",
        mode: "full",
        rules: &["leak-by-creation-site", "gomaxprocs-changed", "schedtrace"],
        workload: Side {
            godebug: Some("schedtrace=500"),
            ..Side::of(
                "goroutines are made that do not end, GOMAXPROCS changes, GODEBUG has schedtrace",
                &["-do", "leaks,resizes"],
            )
        },
        twin: Side::of("the same without all that", &["-do", "leaks,resizes", "-twin"]),
        at_once: true,
    },
    Scene {
        name: "trickle",
        mode: "full",
        rules: &["idle-spinning"],
        workload: Side {
            gomaxprocs: "4",
            ..Side::of(
                "a goroutine with next to nothing to do is woken thousands of times in a second",
                &["-do", "trickles"],
            )
        },
        twin: Side {
            gomaxprocs: "4",
            ..Side::of(
                "it is woken a hundred times in a second",
                &["-do", "trickles", "-twin"],
            )
        },
        at_once: false,
    },
    Scene {
        name: "yielding",
        mode: "exact",
        rules: &["mostly-yields"],
        workload: Side::of("4 goroutines call runtime.Gosched", &["-do", "yields"]),
        twin: Side::of("2 goroutines wake each other", &["-do", "yields", "-twin"]),
        at_once: false,
    },
];

/// Rules without a scene, and why.
pub static WITHOUT: [(&str, &str); 9] = [
    (
        "idle-p-with-queue",
        "no program is known in which it lasts for more than moments",
    ),
    (
        "target-halted",
        "tests/starters.rs stops, traces and freezes programs",
    ),
    (
        "starved-goroutines",
        "tests/ongoing.rs has a loop that cannot be interrupted",
    ),
    (
        "world-still-stopping",
        "tests/ongoing.rs has a loop that cannot be interrupted",
    ),
    (
        "created-waits",
        "unit tests: it counts what tests/known.rs compares",
    ),
    (
        "long-waits-by-creation-site",
        "unit tests: it counts what tests/runtime.rs compares",
    ),
    (
        "preemption-dominates",
        "unit tests: it sums up what tests/known.rs compares",
    ),
    ("late-poll", "unit tests: sysmon-late looks at the same readings"),
    (
        "stop-the-world",
        "unit tests: it sums up what tests/full.rs compares",
    ),
];

/// The scene with this name.
pub fn named(name: &str) -> Option<&'static Scene> {
    SCENES.iter().find(|scene| scene.name == name)
}
