//! The runtime's own histograms as a program reads them, and how a capture compares with that of waits.

use std::collections::BTreeMap;

use serde::Deserialize;
use tracer_user::document::hist::Hist;

/// `/sched/latencies:seconds`, or another of the runtime's histograms of times: non-empty buckets by their bounds in
/// nanoseconds, values in [low, high); -1 stands for the infinite bound at either end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<(i64, i64, u64)>")]
pub struct RuntimeHistogram {
    /// Counts.
    pub buckets: BTreeMap<(i64, i64), u64>,
}

impl From<Vec<(i64, i64, u64)>> for RuntimeHistogram {
    fn from(v: Vec<(i64, i64, u64)>) -> Self {
        Self {
            buckets: v.into_iter().map(|(low, high, n)| ((low, high), n)).collect(),
        }
    }
}

impl RuntimeHistogram {
    /// Returns what was added since an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut buckets = self.buckets.clone();
        for (k, n) in &earlier.buckets {
            let now = buckets.entry(*k).or_default();
            *now = now.checked_sub(*n).expect("the runtime's counts never go down");
        }
        buckets.retain(|_, n| *n > 0);
        Self { buckets }
    }

    /// The number of entries.
    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// Entries of the lowest bucket, nearly all of which are not waits up to Go 1.25.
    pub fn zeros(&self) -> u64 {
        self.buckets
            .iter()
            .filter(|((low, _), _)| *low <= 0)
            .map(|(_, n)| n)
            .sum()
    }

    /// Returns the histogram without its lowest bucket.
    pub fn without_zeros(&self) -> Self {
        Self {
            buckets: self
                .buckets
                .iter()
                .filter(|((low, _), _)| *low > 0)
                .map(|(k, n)| (*k, *n))
                .collect(),
        }
    }

    /// Returns what a `sampled` capture of the same window must have seen. The lowest bucket holds zeros that were not
    /// waits, and hardly anything else up to Go 1.25. From 1.26 on (`zeros_are_waits`) it holds short waits too, and
    /// only gmpscope can distinguish them.
    pub fn sampled_waits(&self, hist: &Hist, zeros_are_waits: bool) -> Self {
        match zeros_are_waits {
            true => self.without(hist.excluded_zero.unwrap_or(0)),
            false => self.without_zeros(),
        }
    }

    /// Returns the histogram without this many entries of the lowest bucket.
    pub fn without(&self, zeros: u64) -> Self {
        let mut rest = self.clone();
        for ((low, _), n) in &mut rest.buckets {
            if *low <= 0 {
                *n = n.saturating_sub(zeros);
            }
        }
        rest.buckets.retain(|_, n| *n > 0);
        rest
    }

    /// The least and the largest sum that the entries can have: all at the lower, or all at the upper bounds of their
    /// buckets. The largest is not known where an entry has no upper bound.
    pub fn sum_bounds(&self) -> (u64, Option<u64>) {
        let sum = |bound: fn(&(i64, i64)) -> i64| {
            let products = self
                .buckets
                .iter()
                .map(|(bounds, n)| Some(u64::try_from(bound(bounds)).ok()? * n));
            products.sum::<Option<u64>>()
        };
        let least = sum(|(low, _)| (*low).max(0));
        (least.unwrap_or(0), sum(|(_, high)| *high))
    }

    /// The bucket [low, high) that holds the quantile q, 0 to 1.
    pub fn quantile(&self, q: f64) -> Option<(i64, i64)> {
        let rank = (q.min(1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.buckets.iter().find_map(|(k, n)| {
            seen += n;
            (seen >= rank).then_some(*k)
        })
    }
}

/// The index of the bucket that a value belongs to, among ascending bounds.
pub fn bucket_of(bounds: &[i64], value: u64) -> usize {
    bounds
        .iter()
        .skip(1)
        .take_while(|b| **b >= 0 && **b <= value as i64)
        .count()
}

/// Compares a passive capture with the runtime's own reading, and lists every difference.
pub fn compare_passive(own: &RuntimeHistogram, hist: &Hist, zeros_are_waits: bool) -> Vec<String> {
    let mut differences = Vec::new();
    let kept = if zeros_are_waits {
        own.clone()
    } else {
        own.without_zeros()
    };
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    for ((_, high), n) in &kept.buckets {
        let le = if *high < 0 {
            i64::MAX as u64
        } else {
            *high as u64 - 1
        };
        *expected.entry(le).or_default() += n;
    }
    let seen: BTreeMap<u64, u64> = hist.buckets.iter().map(|b| (b.le_ns, b.count)).collect();
    for le in expected
        .keys()
        .chain(seen.keys())
        .collect::<std::collections::BTreeSet<_>>()
    {
        let (e, s) = (
            expected.get(le).copied().unwrap_or(0),
            seen.get(le).copied().unwrap_or(0),
        );
        if e != s {
            differences.push(format!("bucket up to {le} ns: the runtime has {e}, gmpscope {s}"));
        }
    }
    if hist.count != kept.count() {
        differences.push(format!(
            "count: the runtime has {}, gmpscope {}",
            kept.count(),
            hist.count
        ));
    }
    if !zeros_are_waits && hist.excluded_zero.unwrap_or(0) != own.zeros() {
        differences.push(format!(
            "zeros that were no waits: the runtime has {}, gmpscope {:?}",
            own.zeros(),
            hist.excluded_zero
        ));
    }
    differences
}

/// Whether two counts agree within a share of the first or an absolute number, whichever is larger.
pub fn counts_agree(oracle: u64, ours: u64, share: f64, absolute: u64) -> bool {
    let allowed = ((oracle as f64 * share).floor() as u64).max(absolute);
    oracle.abs_diff(ours) <= allowed
}

/// The quantile of a capture's histogram: the bounds (exclusive low, inclusive high) of its bucket.
pub fn quantile(hist: &Hist, q: f64) -> Option<(u64, u64)> {
    let rank = (q * hist.count as f64).ceil().max(1.0) as u64;
    let (mut seen, mut low) = (0, 0);
    for b in &hist.buckets {
        seen += b.count;
        if seen >= rank {
            let width = (b.le_ns as f64 * hist.resolution) as u64;
            return Some((low.max(b.le_ns.saturating_sub(width)), b.le_ns));
        }
        low = b.le_ns;
    }
    None
}

/// Returns the share of waits whose latency differs by more than `tolerance_ns`, when both sides are sorted and
/// compared rank by rank. `oracle` is ascending. Waits that only one side has count as different, and shift the ranks
/// of the others by as much, which is allowed for.
pub fn share_off(oracle: &[u64], hist: &Hist, tolerance_ns: u64) -> f64 {
    let ours = hist.count as usize;
    let all = oracle.len().max(ours).max(1);
    let Some(last) = oracle.len().checked_sub(1) else {
        return if ours == 0 { 0.0 } else { 1.0 };
    };
    let shift = oracle.len().abs_diff(ours);
    let mut off = 0;
    let mut rank = 0_usize;
    for b in &hist.buckets {
        let width = (b.le_ns as f64 * hist.resolution) as u64 + 1;
        let low = b.le_ns.saturating_sub(width);
        for _ in 0..b.count {
            let least = oracle[rank.saturating_sub(shift).min(last)];
            let most = oracle[(rank + shift).min(last)];
            let distance = low.saturating_sub(most).max(least.saturating_sub(b.le_ns));
            off += usize::from(distance > tolerance_ns);
            rank += 1;
        }
    }
    off.max(shift) as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_user::document::hist::Bucket;

    fn own(v: &[(i64, i64, u64)]) -> RuntimeHistogram {
        v.to_vec().into()
    }

    fn hist(v: &[(u64, u64)]) -> Hist {
        Hist {
            count: v.iter().map(|b| b.1).sum(),
            resolution: 0.25,
            buckets: v
                .iter()
                .map(|b| Bucket {
                    le_ns: b.0,
                    count: b.1,
                })
                .collect(),
            ..Hist::default()
        }
    }

    #[test]
    fn a_sum_lies_between_those_of_all_bounds() {
        assert_eq!(
            own(&[(-1, 0, 3), (0, 64, 1), (64, 128, 2)]).sum_bounds(),
            (128, Some(320))
        );
        assert_eq!(own(&[(64, -1, 2)]).sum_bounds(), (128, None));
        assert_eq!(own(&[]).sum_bounds(), (0, Some(0)));
    }

    #[test]
    fn a_difference_of_one_is_seen() {
        let o = own(&[(0, 64, 5), (64, 128, 2), (128, 192, 1)]);
        let mut h = hist(&[(127, 2), (191, 1)]);
        h.excluded_zero = Some(5);
        assert_eq!(compare_passive(&o, &h, false), Vec::<String>::new());
        h.excluded_zero = Some(4);
        assert_eq!(compare_passive(&o, &h, false).len(), 1);
        let h = hist(&[(63, 5), (127, 3), (191, 1)]);
        assert_eq!(compare_passive(&o, &h, true).len(), 2, "one bucket and the count");
        let h = hist(&[(63, 5), (127, 1), (191, 2)]);
        assert_eq!(
            compare_passive(&o, &h, true).len(),
            2,
            "two buckets, the same count"
        );
    }

    #[test]
    fn values_fall_into_their_buckets() {
        let bounds = [-1, 0, 64, 128, -1];
        assert_eq!(
            [0, 63, 64, 127, 128, 9999].map(|v| bucket_of(&bounds, v)),
            [1, 1, 2, 2, 3, 3]
        );
    }

    #[test]
    fn ranks_are_compared() {
        let h = hist(&[(1_000_000, 99), (9_000_000, 1)]);
        let mut o = vec![900_000; 99];
        o.push(8_000_000);
        assert_eq!(share_off(&o, &h, 1_000_000), 0.0);
        o[99] = 20_000_000;
        assert_eq!(share_off(&o, &h, 1_000_000), 0.01);
        o.pop();
        assert_eq!(share_off(&o, &h, 1_000_000), 0.01, "one that only we have");
    }
}
