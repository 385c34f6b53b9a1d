//! Every change of a goroutine's state: as `gmpscope` in mode `full` has it, and as `runtime/trace` of the same run
//! has it, compared one by one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tracer_user::output::capture::Capture;

use crate::environment::monotonic_ns;
use crate::oracle;
use crate::run::Attach;
use crate::scenario::Case;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The state before.
    pub from: String,
    /// The state after.
    pub to: String,
    /// gmpscope: how it became runnable or why it waits, by number.
    pub reason: u8,
    /// gmpscope: no event told it.
    pub inferred: bool,
}

impl Change {
    fn is(&self, from: &str, to: &str) -> bool {
        self.from == from && self.to == to
    }

    fn same(&self, other: &Self) -> bool {
        self.from == other.from && self.to == other.to
    }
}

/// Changes by goid, each in the order of time.
pub type Changes = BTreeMap<u64, Vec<Change>>;

/// Number of the origin "syscall".
const SYSCALL: u8 = 4;
/// A return from a system call that gets a P at once is written as Runnable for as long as the way by the system stack
/// and a lock takes: some microseconds, and two hits of ours lie on it. It is left out only where the runtime never
/// made the goroutine Runnable, which the call that would do so tells us.
const AT_ONCE_NS: u64 = 20_000;
/// Differences in one goroutine's changes that are looked for; with more, the rest counts as different.
const MOST_DIFFERENT: usize = 2_000;

/// What the file has that `GMPSCOPE_CHANGES` names, within a window.
pub fn ours(file: &Path, from_ns: u64, to_ns: u64) -> Result<Changes> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let goids: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("goid ")?.split_once(' '))
        .filter_map(|(life, goid)| Some((life, goid.parse().ok()?)))
        .collect();
    let mut changes = Changes::new();
    for line in text.lines().filter(|line| !line.starts_with("goid ")) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [at_ns, life, from, to, reason, inferred] = fields[..] else {
            anyhow::bail!("{}: `{line}` is no change", file.display());
        };
        let at_ns: u64 = at_ns.parse()?;
        // The begin of knowing it is no change of its state.
        let is_first = inferred == "1" && from == "dead";
        if at_ns < from_ns || at_ns > to_ns || is_first {
            continue;
        }
        let goid = goids.get(life).with_context(|| format!("no goid for `{line}`"))?;
        changes.entry(*goid).or_default().push(Change {
            at_ns,
            from: from.to_owned(),
            to: to.to_owned(),
            reason: reason.parse()?,
            inferred: inferred == "1",
        });
    }
    changes.values_mut().for_each(without_detour);
    Ok(changes)
}

/// From Go 1.26 on a goroutine that comes back from a system call is Running for a moment before it is known that it
/// has no P. `runtime/trace` does not write that.
fn without_detour(changes: &mut Vec<Change>) {
    let mut kept: Vec<Change> = Vec::with_capacity(changes.len());
    for change in changes.drain(..) {
        let detour = change.is("running", "runnable") && change.reason == SYSCALL;
        match kept.last_mut() {
            Some(last) if detour && last.is("syscall", "running") => {
                *last = Change {
                    from: "syscall".to_owned(),
                    ..change
                };
            }
            _ => kept.push(change),
        }
    }
    *changes = kept;
}

/// What a trace file has within a window. What it says when it begins is no change.
pub fn theirs(trace: &Path, from_ns: u64, to_ns: u64) -> Result<Changes> {
    let text = oracle::changes(trace, from_ns, to_ns)?;
    let mut changes = Changes::new();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let mut next = || fields.next().with_context(|| format!("`{line}` is no change"));
        let (at_ns, goid, from, to) = (next()?.parse()?, next()?.parse()?, next()?, next()?);
        if from != "unknown" {
            changes.entry(goid).or_default().push(Change {
                at_ns,
                from: from.to_owned(),
                to: to.to_owned(),
                reason: 0,
                inferred: false,
            });
        }
    }
    Ok(changes)
}

/// How far both agree.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    /// Changes of the trace, without those that are left out.
    pub theirs: u64,
    /// Of them, those that gmpscope has, in the same order.
    pub matched: u64,
    /// What gmpscope has beside.
    pub more: u64,
    /// Detours by Runnable that the trace writes and the goroutine never made: system calls that got a P at once.
    pub syscalls: u64,
    /// The same of coroutines.
    pub switches: u64,
    /// Differences of the times of what matched, ascending: theirs minus ours, in nanoseconds.
    pub off_ns: Vec<i64>,
    /// Some of what did not match.
    pub examples: Vec<String>,
}

impl Agreement {
    /// Share of all changes, of either side, that both have.
    pub fn share(&self) -> f64 {
        self.matched as f64 / (self.theirs + self.more).max(1) as f64
    }

    /// A quantile of the differences of times.
    pub fn off(&self, q: f64) -> i64 {
        let rank = (q * self.off_ns.len().saturating_sub(1) as f64) as usize;
        self.off_ns.get(rank).copied().unwrap_or(0)
    }

    fn add(&mut self, goid: u64, theirs: &[Change], ours: &[Change]) {
        let theirs = self.without_artefacts(theirs, ours);
        let pairs = common(&theirs, ours);
        self.theirs += theirs.len() as u64;
        self.matched += pairs.len() as u64;
        self.more += (ours.len() - pairs.len()) as u64;
        for &(a, b) in &pairs {
            // What the reader of the trace has moved is not at its own time.
            if theirs[a].at_ns.is_multiple_of(64) {
                self.off_ns.push(theirs[a].at_ns as i64 - ours[b].at_ns as i64);
            }
        }
        if pairs.len() < theirs.len().max(ours.len()) && self.examples.len() < 10 {
            let at = pairs
                .iter()
                .zip(0..)
                .position(|((a, b), n)| (*a, *b) != (n, n))
                .unwrap_or(pairs.len());
            let near = |changes: &[Change]| -> String {
                let shown = changes.iter().skip(at.saturating_sub(2)).take(6);
                shown
                    .map(|c| format!("{} {}->{}, ", c.at_ns, c.from, c.to))
                    .collect()
            };
            self.examples.push(format!(
                "goroutine {goid}, near {at}: trace {}gmpscope {}",
                near(&theirs),
                near(ours)
            ));
        }
    }

    /// The trace's changes without detours by Runnable that never were, where gmpscope has none either.
    fn without_artefacts(&mut self, theirs: &[Change], ours: &[Change]) -> Vec<Change> {
        let mut kept: Vec<Change> = Vec::with_capacity(theirs.len());
        let mut rest = theirs.iter().peekable();
        while let Some(change) = rest.next() {
            let there = ours.get(kept.len());
            let detour = rest.peek().filter(|next| {
                change.to == "runnable"
                    && next.is("runnable", "running")
                    && there.is_some_and(|there| there.is(&change.from, "running"))
            });
            if let Some(next) = detour {
                let took = next.at_ns - change.at_ns;
                let counter = match change.from.as_str() {
                    "syscall" if took <= AT_ONCE_NS => Some(&mut self.syscalls),
                    "waiting" if took <= 1 => Some(&mut self.switches),
                    _ => None,
                };
                if let Some(counter) = counter {
                    *counter += 1;
                    kept.push(Change {
                        at_ns: next.at_ns,
                        from: change.from.clone(),
                        ..(*next).clone()
                    });
                    rest.next();
                    continue;
                }
            }
            kept.push(change.clone());
        }
        kept
    }
}

/// Pairs of indexes of a longest common subsequence (Myers, An O(ND) Difference Algorithm, 1986).
fn common(a: &[Change], b: &[Change]) -> Vec<(usize, usize)> {
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
        // Too different: what is alike at the front is all that counts.
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

/// One run that was compared.
#[derive(Clone, Debug)]
pub struct Compared {
    /// How far both agree.
    pub agreement: Agreement,
    /// What gmpscope saw.
    pub capture: Capture,
    /// What gmpscope said.
    pub said: String,
}

/// Runs a workload while both look, and compares. `drive` keeps it busy while it is let run.
///
/// # Errors
/// Something of it did not work; not that the two disagree.
pub fn compare(case: &Case, more: &[&str]) -> Result<Compared> {
    let mut workload = case.start()?;
    let dir = tempfile::tempdir()?;
    let (trace, changes) = (dir.path().join("trace"), dir.path().join("changes"));
    workload.trace_start(&trace)?;
    let attach = Attach::to(workload.pid())
        .mode("full")
        .arg("--syscalls")
        .env("GMPSCOPE_CHANGES", &changes.display().to_string());
    let attach = more.iter().fold(attach, |attach, arg| attach.arg(arg));
    let told = case.told.iter();
    let tracer = told
        .fold(attach, |attach, (name, value)| attach.env(name, value))
        .start()?;
    // The states that there were are read behind the attaching.
    std::thread::sleep(Duration::from_millis(50));
    let from_ns = monotonic_ns();
    workload.go_during(case.time)?;
    let to_ns = monotonic_ns();
    std::thread::sleep(Duration::from_millis(20));
    let outcome = tracer.interrupt()?;
    workload.trace_stop()?;
    let said = outcome.stderr.clone();
    let capture = outcome.captured()?;
    let ours = ours(&changes, from_ns, to_ns)?;
    let theirs = theirs(&trace, from_ns, to_ns)?;
    ensure!(!theirs.is_empty(), "the trace has no change in the window");
    let mut agreement = Agreement::default();
    let none = Vec::new();
    let goids: std::collections::BTreeSet<u64> = ours.keys().chain(theirs.keys()).copied().collect();
    for goid in goids {
        let (theirs, ours) = (theirs.get(&goid), ours.get(&goid));
        agreement.add(goid, theirs.unwrap_or(&none), ours.unwrap_or(&none));
    }
    agreement.off_ns.sort_unstable();
    Ok(Compared {
        agreement,
        capture,
        said,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(states: &str) -> Vec<Change> {
        let states: Vec<&str> = states.split(' ').collect();
        let pairs = states.windows(2).zip(1..);
        pairs
            .map(|(pair, n)| Change {
                at_ns: n * 64,
                from: pair[0].to_owned(),
                to: pair[1].to_owned(),
                reason: 0,
                inferred: false,
            })
            .collect()
    }

    #[test]
    fn what_is_missing_and_what_is_more_is_counted() {
        let long = "running waiting runnable running waiting runnable running waiting";
        let cases = [
            (long, long, (7, 7, 0)),
            (long, "running waiting runnable running waiting", (7, 4, 0)),
            ("running waiting runnable running waiting", long, (4, 4, 3)),
            (
                "running waiting runnable running",
                "running runnable running",
                (3, 1, 1),
            ),
            (long, "dead dead", (7, 0, 1)),
        ];
        for (theirs, ours, expected) in cases {
            let mut agreement = Agreement::default();
            agreement.add(1, &changes(theirs), &changes(ours));
            let found = (agreement.theirs, agreement.matched, agreement.more);
            assert_eq!(found, expected, "{theirs} / {ours}");
        }
    }

    #[test]
    fn a_detour_that_never_was_is_left_out_only_where_it_is_short_and_ours_has_none() {
        let theirs = changes("running syscall runnable running waiting");
        let mut agreement = Agreement::default();
        agreement.add(1, &theirs, &changes("running syscall running waiting"));
        assert_eq!(
            (agreement.theirs, agreement.matched, agreement.syscalls),
            (3, 3, 1)
        );
        let mut agreement = Agreement::default();
        agreement.add(1, &theirs, &theirs.clone());
        assert_eq!(
            (agreement.theirs, agreement.matched, agreement.syscalls),
            (4, 4, 0)
        );
        let mut late = theirs.clone();
        late[2].at_ns += AT_ONCE_NS;
        let mut agreement = Agreement::default();
        agreement.add(1, &late, &changes("running syscall running waiting"));
        assert!(agreement.share() < 0.8 && agreement.syscalls == 0);
    }
}
