//! Observations for tests.

use proptest::{collection::vec, option, prelude::*};

use super::super::*;
use crate::{
    escape::Untrusted,
    stream::{
        BucketScheme, Event, HistogramDelta, HistogramKey, Kind, Loss, LossCause, Origin, SlowWait, Snapshot,
        Throttling,
        causes::CauseSamples,
        ongoing::{OngoingSeen, RunnableGoroutine, StillRunnable, StillStopped},
        start::{Mark, StartCall, StartHeld, StartMark, Usage},
        transition::{
            GoroutineSeen, MachineSeen, ProcessorSeen, ReadingPart, SchedSnapshot, StackSeen, StacksSeen,
            Transition,
        },
    },
};

fn origin() -> impl Strategy<Value = Origin> {
    prop::sample::select(Origin::ALL.to_vec())
}

fn slow_wait() -> impl Strategy<Value = Event> {
    let parts = (
        any::<u64>(),
        any::<Option<u64>>(),
        any::<Option<u64>>(),
        option::of(origin()),
        any::<u32>(),
        any::<Option<u32>>(),
    );
    parts.prop_map(|(latency_ns, goid, gopc, origin, tid, p)| {
        Event::SlowWait(SlowWait {
            latency_ns,
            goid,
            gopc,
            origin,
            tid,
            p,
        })
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    any::<(u64, u64, u64, u64)>().prop_map(|(asleep_ns, waiting_ns, minor_faults, major_faults)| Usage {
        asleep_ns,
        waiting_ns,
        minor_faults,
        major_faults,
    })
}

fn start_mark() -> impl Strategy<Value = Event> {
    let parts = (
        any::<(u32, u32, bool, u64)>(),
        prop::sample::select(Mark::ALL.to_vec()),
        option::of(".{0,20}"),
        option::of(usage()),
    );
    parts.prop_map(|((pid, tid, main_thread, value), mark, name, usage)| {
        Event::StartMark(StartMark {
            pid,
            tid,
            main_thread,
            mark,
            value,
            name,
            usage,
        })
    })
}

fn start_call() -> impl Strategy<Value = Event> {
    let parts = (
        any::<(u32, u32, bool, u64, Option<i64>)>(),
        "[a-z]{1,12}",
        option::of(".{0,20}"),
    );
    parts.prop_map(|((pid, tid, main_thread, duration_ns, result), name, on)| {
        Event::StartCall(StartCall {
            pid,
            tid,
            main_thread,
            name,
            on,
            duration_ns,
            result,
        })
    })
}

fn histogram_delta() -> impl Strategy<Value = HistogramDelta> {
    let key = prop_oneof![
        Just(HistogramKey::All),
        origin().prop_map(HistogramKey::Origin),
        any::<u64>().prop_map(HistogramKey::CreationSite),
    ];
    let scheme = prop::sample::select(vec![
        BucketScheme::Go119,
        BucketScheme::Go121,
        BucketScheme::Kernel,
    ]);
    let parts = (
        key,
        scheme,
        vec(any::<(u16, u64)>(), 0..20),
        any::<Option<u64>>(),
        any::<Option<(u64, u64)>>(),
        any::<u64>(),
    );
    parts.prop_map(
        |(key, scheme, counts, sum_ns, extremes_ns, excluded_zero)| HistogramDelta {
            key,
            scheme,
            counts,
            sum_ns,
            extremes_ns,
            excluded_zero,
        },
    )
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let parts = (
        vec((".{0,8}", any::<u64>()), 0..4),
        any::<bool>(),
        any::<(Option<u64>, Option<u64>, Option<u32>, Option<bool>)>(),
        vec(any::<u32>(), 0..5),
        vec(("[a-z]{1,8}", any::<u64>()), 0..3),
        any::<(Option<u32>, Option<u64>, Option<(u64, u64)>)>(),
    );
    parts.prop_map(
        |(goroutines_by_state, goroutines_sampled, some, local_runqs, ps_by_state, more)| Snapshot {
            goroutines_by_state,
            goroutines_sampled,
            allgs: some.0,
            global_runq: some.1,
            gomaxprocs: some.2,
            gc_waiting: some.3,
            local_runqs,
            ps_by_state,
            idle_ms: more.0,
            since_last_poll_ns: more.1,
            stw_pauses: more.2,
            ..Snapshot::default()
        },
    )
}

pub(super) fn transition() -> impl Strategy<Value = Transition> {
    // Real ones, and whatever else the types allow.
    let near = (
        1_000_000u64..1_010_000,
        0u64..50,
        prop_oneof![Just(0), 1u64..9],
        0u32..8,
        any::<[bool; 2]>(),
    );
    let near = near.prop_map(|(at_ns, g, detail, tid, [one, other])| Transition {
        at_ns,
        subject: 0xc000_0000 + g * 448,
        detail,
        tid,
        what: 1,
        status: if one { 0x12 } else { 0x24 },
        reason: u8::from(other),
        flags: 0,
    });
    let any = any::<(u64, u64, u64, u32, [u8; 4])>().prop_map(
        |(at_ns, subject, detail, tid, [what, status, reason, flags])| Transition {
            at_ns,
            subject,
            detail,
            tid,
            what,
            status,
            reason,
            flags,
        },
    );
    prop_oneof![8 => near, 1 => any]
}

fn scheduler() -> impl Strategy<Value = SchedSnapshot> {
    let goroutine =
        any::<([u64; 5], [u8; 2])>().prop_map(|([g, goid, m, gopc, startpc], [status, reason])| {
            GoroutineSeen {
                g,
                goid,
                status,
                reason,
                m,
                gopc,
                startpc,
            }
        });
    let processor = any::<(u64, u64, u32, u32, u8)>().prop_map(|(p, m, id, queued, status)| ProcessorSeen {
        p,
        id,
        status,
        m,
        queued,
    });
    let machine =
        any::<([u64; 5], u32, [bool; 2])>().prop_map(|([m, id, curg, p, oldp], tid, [spinning, blocked])| {
            MachineSeen {
                m,
                id,
                tid,
                curg,
                p,
                oldp,
                spinning,
                blocked,
            }
        });
    let part = any::<(u64, u64, bool)>().prop_map(|(begin_ns, gs, is_last)| ReadingPart {
        begin_ns,
        gs,
        is_last,
    });
    let parts = (
        any::<(u64, u64, bool)>(),
        option::of(part),
        vec(goroutine, 0..20),
        vec(processor, 0..5),
        vec(machine, 0..5),
    );
    parts.prop_map(
        |((begin_ns, end_ns, cut_short), part, goroutines, processors, machines)| SchedSnapshot {
            begin_ns,
            end_ns,
            goroutines,
            processors,
            machines,
            cut_short,
            part,
        },
    )
}

fn stacks() -> impl Strategy<Value = StacksSeen> {
    let stack = (any::<(u32, u32)>(), vec(any::<u64>(), 0..8));
    let stack = stack.prop_map(|((id, end), pcs)| StackSeen { id, pcs, end });
    (vec(stack, 0..6), any::<u64>()).prop_map(|(new, walked)| StacksSeen { new, walked })
}

fn ongoing() -> impl Strategy<Value = OngoingSeen> {
    let goroutine = any::<(u64, u64, Option<u64>, bool, Option<u64>, Option<u8>)>();
    let goroutine =
        goroutine.prop_map(
            |(goid, gopc, since_ns, throughout, seen_ns, origin)| RunnableGoroutine {
                goid,
                gopc,
                since_ns,
                throughout,
                seen_ns,
                origin,
            },
        );
    let runnable = (any::<(u64, u64, u64)>(), vec(goroutine, 0..6));
    let runnable = runnable.prop_map(|((read, all, count), goroutines)| StillRunnable {
        read,
        all,
        count,
        goroutines,
    });
    let stop = any::<(u64, u32)>().prop_map(|(since_ns, not_stopped)| StillStopped {
        since_ns,
        not_stopped,
    });
    (option::of(runnable), option::of(stop)).prop_map(|(runnable, stop)| OngoingSeen { runnable, stop })
}

fn cause_samples() -> impl Strategy<Value = CauseSamples> {
    let by_cause = prop::collection::btree_map(any::<u8>(), any::<u64>(), 0..16);
    let sums = any::<([u64; 3], [u64; 4])>();
    (sums, by_cause).prop_map(
        |(([samples, torn, length_ns], [runnable_ns, some_ns, largest_ns, executed]), by_cause)| {
            CauseSamples {
                samples,
                torn,
                length_ns,
                runnable_ns,
                some_ns,
                largest_ns,
                executed,
                by_cause: by_cause.into_iter().collect(),
            }
        },
    )
}

fn frame() -> impl Strategy<Value = Frame> {
    let place = option::of((".{0,20}", 0..u32::MAX));
    (".{0,20}", place).prop_map(|(function, place)| Frame {
        function: function.into(),
        place: place.map(|(file, line)| (file.into(), line)),
    })
}

pub(super) fn observation() -> impl Strategy<Value = Observation> {
    let loss = (prop::sample::select(LossCause::ALL.to_vec()), any::<u64>());
    let kind = prop_oneof![
        slow_wait().prop_map(Kind::Event),
        start_mark().prop_map(Kind::Event),
        start_call().prop_map(Kind::Event),
        any::<(u32, u64)>()
            .prop_map(|(pid, held_ns)| Kind::Event(Event::StartHeld(StartHeld { pid, held_ns }))),
        histogram_delta().prop_map(Kind::HistogramDelta),
        snapshot().prop_map(|snapshot| Kind::Snapshot(Box::new(snapshot))),
        loss.prop_map(|(cause, count)| Kind::Loss(Loss { cause, count })),
        any::<u64>().prop_map(Kind::Hits),
        any::<u64>().prop_map(Kind::TransitionsSeen),
        vec(transition(), 0..60).prop_map(Kind::Transitions),
        scheduler().prop_map(|seen| Kind::Scheduler(Box::new(seen))),
        stacks().prop_map(Kind::Stacks),
        ongoing().prop_map(Kind::Ongoing),
        any::<(u64, u64)>().prop_map(|(throttled_ns, periods)| {
            Kind::Throttling(Throttling {
                throttled_ns,
                periods,
            })
        }),
        cause_samples().prop_map(Kind::CauseSamples),
    ];
    (any::<u64>(), kind).prop_map(|(at_ns, kind)| Observation { at_ns, kind })
}

pub(super) fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        1 => ".{0,40}".prop_map(Entry::Step),
        1 => vec((any::<u64>(), ".{0,20}".prop_map(Untrusted::from)), 1..5).prop_map(Entry::Names),
        1 => vec((any::<u64>(), vec(frame(), 0..4)), 1..5).prop_map(Entry::Frames),
        8 => vec(observation(), 1..30).prop_map(Entry::Observations),
    ]
}
