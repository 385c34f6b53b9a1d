//! `sched.timeToRun`, the runtime's own histogram of the time goroutines spent runnable.

use crate::binary::Globals;
use crate::binary::layout::{Layout, TimeHistogram, TimeHistogramScheme};
use crate::process::memory::{Memory, ReadError};
use crate::stream::{BucketScheme, HistogramDelta, HistogramKey};

use super::observe_error::ObserveError;

/// Most bytes that a `runtime.timeHistogram` may have; Go 1.19's has 5768.
const MAX_SIZE: u32 = 64 << 10;

/// The histogram's address and shape, and its last reading.
#[derive(Debug)]
pub(super) struct TimeToRun {
    address: u64,
    shape: TimeHistogram,
    scheme: BucketScheme,
    /// Whether bucket 0 has entries that were not waits: up to Go 1.25 `casgstatus` records a zero for a tracked
    /// goroutine that returns from a system call, grows its stack or pauses for the GC (`runtime/proc.go`: the running
    /// time since `trackingStamp` is recorded whether or not it had been runnable). They are half of all entries in a
    /// program with many system calls.
    zeros_are_not_waits: bool,
    last: Option<Reading>,
}

/// The counters at one moment.
#[derive(Clone, Debug)]
struct Reading {
    counts: Vec<u64>,
    underflow: u64,
    overflow: u64,
}

impl Reading {
    /// Whether no counter is smaller than in `before`.
    fn follows(&self, before: &Reading) -> bool {
        self.counts
            .iter()
            .zip(&before.counts)
            .all(|(now, then)| now >= then)
            && self.underflow >= before.underflow
            && self.overflow >= before.overflow
    }
}

impl TimeToRun {
    /// The histogram, where its address and shape are known.
    pub(super) fn new(globals: &Globals, layout: Option<&Layout>, go_minor: u32) -> Option<Self> {
        let within_sched = || Some(globals.sched?.wrapping_add(u64::from(layout?.sched.time_to_run)));
        let address = globals.time_to_run.or_else(within_sched)?;
        let (shape, scheme) = match layout {
            Some(layout) => (layout.time_histogram.clone(), scheme_of(layout)?),
            None => known_shape(go_minor)?,
        };
        let zeros_are_not_waits = go_minor <= 25;
        Some(Self {
            address,
            shape,
            scheme,
            zeros_are_not_waits,
            last: None,
        })
    }

    pub(super) fn scheme(&self) -> BucketScheme {
        self.scheme
    }

    /// Reads the histogram. Returns the waits since the last reading and how many of them were negative, or `None` at the
    /// first reading.
    pub(super) fn read_delta(
        &mut self,
        memory: &impl Memory,
    ) -> Result<Option<(HistogramDelta, u64)>, ObserveError> {
        let mut now = self.read(memory)?;
        let Some(before) = self.last.as_ref() else {
            self.last = Some(now);
            return Ok(None);
        };
        if !now.follows(before) {
            // The kernel does not promise to copy a counter in one piece: a torn value is whole when read again.
            now = self.read(memory)?;
            if !now.follows(before) {
                return Err(ObserveError::Replaced {
                    address: self.address,
                });
            }
        }
        let mut delta = HistogramDelta {
            key: HistogramKey::All,
            scheme: self.scheme,
            counts: Vec::new(),
            sum_ns: None,
            extremes_ns: None,
            excluded_zero: 0,
        };
        for (index, (now, then)) in (0u16..).zip(now.counts.iter().zip(&before.counts)) {
            match now - then {
                0 => {}
                zeros if index == 0 && self.zeros_are_not_waits => delta.excluded_zero = zeros,
                count => delta.counts.push((index, count)),
            }
        }
        let overflow = now.overflow - before.overflow;
        if overflow > 0 {
            delta.counts.push((self.scheme.buckets(), overflow));
        }
        let negative = now.underflow - before.underflow;
        self.last = Some(now);
        Ok(Some((delta, negative)))
    }

    /// Reads how many entries the histogram has.
    pub(super) fn entries(&self, memory: &impl Memory) -> Result<u64, ReadError> {
        let reading = self.read(memory)?;
        let all = reading
            .counts
            .iter()
            .chain([&reading.underflow, &reading.overflow]);
        Ok(all.fold(0, |sum: u64, count| sum.wrapping_add(*count)))
    }

    fn read(&self, memory: &impl Memory) -> Result<Reading, ReadError> {
        let mut bytes = vec![0; self.shape.size as usize];
        memory.read(self.address, &mut bytes)?;
        let word = |offset: u32| {
            let word = bytes.get(offset as usize..).and_then(|rest| rest.first_chunk());
            word.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        let at = |index: u32| self.shape.counts.saturating_add(index.saturating_mul(8));
        Ok(Reading {
            counts: (0..self.shape.buckets).map(|index| word(at(index))).collect(),
            underflow: word(self.shape.underflow),
            overflow: self.shape.overflow.map_or(0, word),
        })
    }
}

/// The bucket scheme of this layout; `None` for one that no known version has.
fn scheme_of(layout: &Layout) -> Option<BucketScheme> {
    let scheme = match layout.time_histogram_scheme()? {
        TimeHistogramScheme::Go119 => BucketScheme::Go119,
        TimeHistogramScheme::Go121 => BucketScheme::Go121,
    };
    let shape = &layout.time_histogram;
    let end = shape.counts.checked_add(shape.buckets.checked_mul(8)?)?;
    let is_sound =
        u32::from(scheme.buckets()) == shape.buckets && end <= shape.size && shape.size <= MAX_SIZE;
    is_sound.then_some(scheme)
}

/// The shape in versions where it is known without a layout table: `counts` first, then `underflow`, then
/// `overflow` (`runtime/histogram.go` of Go 1.19.8 and of 1.21 to 1.27).
fn known_shape(go_minor: u32) -> Option<(TimeHistogram, BucketScheme)> {
    let (scheme, has_overflow) = match go_minor {
        19 => (BucketScheme::Go119, false),
        21..=27 => (BucketScheme::Go121, true),
        _ => return None,
    };
    let buckets = u32::from(scheme.buckets());
    let underflow = buckets * 8;
    let overflow = has_overflow.then_some(underflow + 8);
    let size = underflow + if has_overflow { 16 } else { 8 };
    Some((
        TimeHistogram {
            counts: 0,
            buckets,
            underflow,
            overflow,
            size,
        },
        scheme,
    ))
}

/// Number of entries of the `runtime.timeHistogram` at `offset` of `bytes`, and the sum of their times in
/// nanoseconds, each taken as the middle of its bucket.
pub(super) fn total_of(bytes: &[u8], offset: u32, layout: &Layout) -> Option<(u64, u64)> {
    let (scheme, shape) = (scheme_of(layout)?, &layout.time_histogram);
    let counts = bytes.get(offset.checked_add(shape.counts)? as usize..)?;
    let counts = counts.get(..shape.buckets as usize * 8)?;
    let mut total = (0u64, 0u64);
    for (index, chunk) in (0u16..).zip(counts.as_chunks().0) {
        let count = u64::from_ne_bytes(*chunk);
        let middle = scheme.lower_ns(index).midpoint(scheme.upper_ns(index));
        total.0 = total.0.saturating_add(count);
        total.1 = total.1.saturating_add(count.saturating_mul(middle));
    }
    Some(total)
}
