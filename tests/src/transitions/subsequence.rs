//! The longest common subsequence of two sequences of changes.

use super::Change;

/// The largest number of differences in one goroutine's changes; with more, the rest counts as different.
const MOST_DIFFERENT: usize = 2_000;

/// Pairs of indexes of a longest common subsequence (Myers, An O(ND) Difference Algorithm, 1986).
pub fn common(a: &[Change], b: &[Change]) -> Vec<(usize, usize)> {
    let same = |x: usize, y: usize| a[x].same(&b[y]);
    let most = MOST_DIFFERENT.min(a.len() + b.len());
    let width = 2 * most + 3;
    let at = |k: isize| (k + most as isize + 1) as usize;
    let mut furthest = vec![0usize; width];
    let mut steps: Vec<Vec<usize>> = Vec::new();
    let mut end = None;
    'search: for d in 0..=most as isize {
        steps.push(furthest.clone());
        let mut k = -d;
        while k <= d {
            let down = k == -d || k != d && furthest[at(k - 1)] < furthest[at(k + 1)];
            let mut x = if down {
                furthest[at(k + 1)]
            } else {
                furthest[at(k - 1)] + 1
            };
            let mut y = (x as isize - k) as usize;
            while x < a.len() && y < b.len() && same(x, y) {
                (x, y) = (x + 1, y + 1);
            }
            furthest[at(k)] = x;
            if x >= a.len() && y >= b.len() {
                end = Some((d, k));
                break 'search;
            }
            k += 2;
        }
    }
    let Some((mut d, mut k)) = end else {
        // Too different: only the common prefix counts.
        let alike = (0..a.len().min(b.len())).take_while(|n| same(*n, *n));
        return alike.map(|n| (n, n)).collect();
    };
    let (mut x, mut y) = (a.len(), b.len());
    let mut pairs = Vec::new();
    while d >= 0 {
        let before = &steps[d as usize];
        let down = k == -d || k != d && before[at(k - 1)] < before[at(k + 1)];
        let from_k = if down { k + 1 } else { k - 1 };
        let from_x = if d == 0 { 0 } else { before[at(from_k)] };
        let from_y = (from_x as isize - from_k) as usize;
        let (start_x, start_y) = match (d, down) {
            (0, _) => (0, 0),
            (_, true) => (from_x, from_y + 1),
            (_, false) => (from_x + 1, from_y),
        };
        while x > start_x && y > start_y {
            (x, y) = (x - 1, y - 1);
            pairs.push((x, y));
        }
        (x, y) = (from_x, from_y);
        (d, k) = (d - 1, from_k);
    }
    pairs.reverse();
    pairs
}
