//! Encodes observations. Each begins with its time, as the difference to the block's.
//!
//! The layouts are in docs/recording.md. Additions of a later version get a new tag, which an older reader skips.

use serde::de::DeserializeOwned;

use super::{
    causes,
    scheduler::{self, Parts},
    stacks, starts, transitions,
    wire::{Append, Bytes, Read, Trouble, flags, put, put_difference, put_some, put_text},
};
use crate::stream::{
    BucketScheme, Event, HistogramDelta, HistogramKey, Kind, Loss, LossCause, Observation, Origin, SlowWait,
    Throttling, start::StartHeld,
};

/// Tags of observations.
pub mod tag {
    /// [`super::SlowWait`].
    pub const SLOW_WAIT: u8 = 0x10;
    /// [`crate::stream::start::StartMark`].
    pub const START_MARK: u8 = 0x11;
    /// [`crate::stream::start::StartCall`].
    pub const START_CALL: u8 = 0x12;
    /// [`super::HistogramDelta`].
    pub const HISTOGRAM_DELTA: u8 = 0x13;
    /// [`super::Kind::Snapshot`].
    pub const SNAPSHOT: u8 = 0x14;
    /// [`super::Loss`].
    pub const LOSS: u8 = 0x15;
    /// [`super::Kind::Hits`].
    pub const HITS: u8 = 0x16;
    /// [`super::Kind::Transitions`], or a part of them.
    pub const TRANSITIONS: u8 = 0x17;
    /// [`super::Kind::Scheduler`], or a part of it.
    pub const SCHEDULER: u8 = 0x18;
    /// [`super::StartHeld`].
    pub const START_HELD: u8 = 0x19;
    /// [`super::Kind::TransitionsSeen`].
    pub const TRANSITIONS_SEEN: u8 = 0x1a;
    /// [`super::Kind::Stacks`].
    pub const STACKS: u8 = 0x1b;
    /// [`super::Kind::Ongoing`].
    pub const ONGOING: u8 = 0x1c;
    /// [`super::Throttling`].
    pub const THROTTLING: u8 = 0x1d;
    /// [`super::Kind::CauseSamples`].
    pub const CAUSE_SAMPLES: u8 = 0x1e;
}

/// Calls `record` with the tag of an observation and a function that appends its contents; more than once for an
/// observation that may be too large for a single record.
pub fn encode(base_ns: u64, observation: &Observation, record: &mut dyn FnMut(u8, Append<'_>)) {
    match &observation.kind {
        Kind::Transitions(all) => {
            let mut left = all.len();
            // An empty observation has one record, too.
            for run in all
                .chunks(transitions::RUN)
                .chain(all.is_empty().then_some(&[][..]))
            {
                left -= run.len();
                let last = run
                    .last()
                    .map_or(observation.at_ns, |transition| transition.at_ns);
                let at_ns = if left == 0 { observation.at_ns } else { last };
                record(tag::TRANSITIONS, &mut |out| {
                    put_difference(out, at_ns, base_ns);
                    transitions::encode(out, base_ns, run);
                });
            }
        }
        Kind::Scheduler(snapshot) => scheduler::parts(snapshot, base_ns, |part| {
            record(tag::SCHEDULER, &mut |out| {
                put_difference(out, observation.at_ns, base_ns);
                part(out);
            });
        }),
        kind => {
            let tag = tag_of(kind);
            record(tag, &mut |out| {
                put_difference(out, observation.at_ns, base_ns);
                encode_small(out, kind);
            });
        }
    }
}

fn tag_of(kind: &Kind) -> u8 {
    match kind {
        Kind::Event(Event::SlowWait(_)) => tag::SLOW_WAIT,
        Kind::Event(Event::StartMark(_)) => tag::START_MARK,
        Kind::Event(Event::StartCall(_)) => tag::START_CALL,
        Kind::Event(Event::StartHeld(_)) => tag::START_HELD,
        Kind::HistogramDelta(_) => tag::HISTOGRAM_DELTA,
        Kind::Snapshot(_) => tag::SNAPSHOT,
        Kind::Loss(_) => tag::LOSS,
        Kind::Hits(_) => tag::HITS,
        Kind::Transitions(_) => tag::TRANSITIONS,
        Kind::TransitionsSeen(_) => tag::TRANSITIONS_SEEN,
        Kind::Scheduler(_) => tag::SCHEDULER,
        Kind::Stacks(_) => tag::STACKS,
        Kind::Ongoing(_) => tag::ONGOING,
        Kind::Throttling(_) => tag::THROTTLING,
        Kind::CauseSamples(_) => tag::CAUSE_SAMPLES,
    }
}

fn encode_small(out: &mut Vec<u8>, kind: &Kind) {
    match kind {
        Kind::Event(Event::SlowWait(wait)) => slow_wait(out, wait),
        Kind::Event(Event::StartMark(mark)) => starts::mark(out, mark),
        Kind::Event(Event::StartCall(call)) => starts::call(out, call),
        Kind::Event(Event::StartHeld(StartHeld { pid, held_ns })) => {
            put(out, u64::from(*pid));
            put(out, *held_ns);
        }
        Kind::HistogramDelta(delta) => histogram_delta(out, delta),
        Kind::Snapshot(snapshot) => {
            // As JSON, since there are few, with many fields that may be absent, and others will be added. Writing to
            // memory does not fail, and all maps of the type have text as keys.
            let _ = serde_json::to_writer(&mut *out, snapshot);
        }
        // As JSON, too: it comes once.
        Kind::Ongoing(seen) => {
            let _ = serde_json::to_writer(&mut *out, seen);
        }
        Kind::Loss(loss) => {
            put_text(out, loss.cause.name());
            put(out, loss.count);
        }
        Kind::Hits(count) | Kind::TransitionsSeen(count) => put(out, *count),
        Kind::Throttling(Throttling {
            throttled_ns,
            periods,
        }) => {
            put(out, *throttled_ns);
            put(out, *periods);
        }
        Kind::Stacks(seen) => stacks::encode(out, seen),
        Kind::CauseSamples(seen) => causes::encode(out, seen),
        Kind::Transitions(_) | Kind::Scheduler(_) => {}
    }
}

/// Decodes an observation; `None` for a part of one that is continued, which is kept in `parts`.
///
/// # Errors
/// The contents do not match the tag, or are of a later version.
pub fn decode(tag: u8, contents: &[u8], base_ns: u64, parts: &mut Parts) -> Read<Option<Observation>> {
    let mut bytes = Bytes(contents);
    let at_ns = bytes.difference(base_ns)?;
    let kind = match tag {
        tag::SLOW_WAIT => Kind::Event(Event::SlowWait(read_slow_wait(&mut bytes)?)),
        tag::START_MARK => Kind::Event(Event::StartMark(starts::read_mark(&mut bytes)?)),
        tag::START_CALL => Kind::Event(Event::StartCall(starts::read_call(&mut bytes)?)),
        tag::START_HELD => Kind::Event(Event::StartHeld(StartHeld {
            pid: bytes.small()?,
            held_ns: bytes.number()?,
        })),
        tag::HISTOGRAM_DELTA => Kind::HistogramDelta(read_histogram_delta(&mut bytes)?),
        tag::SNAPSHOT => Kind::Snapshot(Box::new(read_json(
            &bytes,
            "a snapshot is not what it should be",
        )?)),
        tag::ONGOING => Kind::Ongoing(read_json(&bytes, "what is not over is not what it should be")?),
        tag::LOSS => Kind::Loss(Loss {
            cause: LossCause::named(bytes.text()?).ok_or(Trouble::Unknown)?,
            count: bytes.number()?,
        }),
        tag::HITS => Kind::Hits(bytes.number()?),
        tag::TRANSITIONS_SEEN => Kind::TransitionsSeen(bytes.number()?),
        tag::THROTTLING => Kind::Throttling(Throttling {
            throttled_ns: bytes.number()?,
            periods: bytes.number()?,
        }),
        tag::STACKS => Kind::Stacks(stacks::decode(&mut bytes)?),
        tag::CAUSE_SAMPLES => Kind::CauseSamples(causes::decode(&mut bytes)?),
        tag::TRANSITIONS => Kind::Transitions(transitions::decode(&mut bytes, base_ns)?),
        tag::SCHEDULER => match parts.take(&mut bytes, base_ns)? {
            Some(snapshot) => Kind::Scheduler(Box::new(snapshot)),
            None => return Ok(None),
        },
        _ => return Err(Trouble::Unknown),
    };
    // Bytes that are left were appended by a later version.
    Ok(Some(Observation { at_ns, kind }))
}

fn slow_wait(out: &mut Vec<u8>, wait: &SlowWait) {
    let SlowWait {
        latency_ns,
        goid,
        gopc,
        origin,
        tid,
        p,
    } = wait;
    out.push(flags([
        goid.is_some(),
        gopc.is_some(),
        origin.is_some(),
        p.is_some(),
    ]));
    put(out, *latency_ns);
    put(out, u64::from(*tid));
    put_some(out, *goid);
    put_some(out, *gopc);
    put_some(out, origin.map(|origin| origin as u64));
    put_some(out, p.map(u64::from));
}

fn read_slow_wait(bytes: &mut Bytes) -> Read<SlowWait> {
    let [goid, gopc, origin, p] = bytes.flags()?;
    Ok(SlowWait {
        latency_ns: bytes.number()?,
        tid: bytes.small()?,
        goid: bytes.some(goid)?,
        gopc: bytes.some(gopc)?,
        origin: bytes.some(origin)?.map(read_origin).transpose()?,
        p: p.then(|| bytes.small()).transpose()?,
    })
}

fn histogram_delta(out: &mut Vec<u8>, delta: &HistogramDelta) {
    let HistogramDelta {
        key,
        scheme,
        counts,
        sum_ns,
        extremes_ns,
        excluded_zero,
    } = delta;
    out.push(flags([
        sum_ns.is_some(),
        extremes_ns.is_some(),
        *excluded_zero > 0,
        false,
    ]));
    let (tag, value) = match key {
        HistogramKey::All => (0, 0),
        HistogramKey::Origin(origin) => (1, *origin as u64),
        HistogramKey::CreationSite(gopc) => (2, *gopc),
    };
    out.push(tag);
    put(out, value);
    out.push(match scheme {
        BucketScheme::Go119 => 0,
        BucketScheme::Go121 => 1,
        BucketScheme::Kernel => 2,
    });
    put(out, counts.len() as u64);
    let mut last = 0;
    for (index, count) in counts {
        put_difference(out, u64::from(*index), last);
        put(out, *count);
        last = u64::from(*index);
    }
    put_some(out, *sum_ns);
    put_some(out, extremes_ns.map(|(low, _)| low));
    put_some(out, extremes_ns.map(|(_, high)| high));
    put_some(out, Some(*excluded_zero).filter(|n| *n > 0));
}

fn read_histogram_delta(bytes: &mut Bytes) -> Read<HistogramDelta> {
    let [sum, extremes, excluded, _] = bytes.flags()?;
    let (tag, value) = (bytes.byte()?, bytes.number()?);
    let key = match tag {
        0 => HistogramKey::All,
        1 => HistogramKey::Origin(read_origin(value)?),
        2 => HistogramKey::CreationSite(value),
        _ => return Err(Trouble::Unknown),
    };
    let scheme = match bytes.byte()? {
        0 => BucketScheme::Go119,
        1 => BucketScheme::Go121,
        2 => BucketScheme::Kernel,
        _ => return Err(Trouble::Unknown),
    };
    let length: usize = bytes.small()?;
    // A bucket takes at least two bytes.
    if length > bytes.len() / 2 {
        return Err(Trouble::Malformed("a histogram has more buckets than bytes"));
    }
    let mut counts = Vec::with_capacity(length);
    let mut last = 0;
    for _ in 0..length {
        last = bytes.difference(last)?;
        let index =
            u16::try_from(last).map_err(|_| Trouble::Malformed("the index of a bucket is too large"))?;
        counts.push((index, bytes.number()?));
    }
    Ok(HistogramDelta {
        key,
        scheme,
        counts,
        sum_ns: bytes.some(sum)?,
        extremes_ns: bytes.some(extremes)?.zip(bytes.some(extremes)?),
        excluded_zero: bytes.some(excluded)?.unwrap_or(0),
    })
}

fn read_json<T: DeserializeOwned>(bytes: &Bytes, otherwise: &'static str) -> Read<T> {
    serde_json::from_slice(bytes.0).map_err(|_| Trouble::Malformed(otherwise))
}

fn read_origin(number: u64) -> Read<Origin> {
    u8::try_from(number)
        .ok()
        .and_then(Origin::from_u8)
        .ok_or(Trouble::Unknown)
}
