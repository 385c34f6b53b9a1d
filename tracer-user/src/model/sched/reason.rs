//! Why goroutines wait, in the runtime's own words. Numbers of reasons differ between versions of Go.

/// The reasons by number, in a block for each version of Go.
const TABLE: &str = include_str!("wait_reasons.txt");

/// Reasons for which the runtime says that a goroutine waits though it keeps running, on the system stack: so that the
/// garbage collector or the execution tracer may scan its stack, or the heap be dumped. Source: the callers of
/// `casGToWaiting` and of its variants that do not call `dropg`, from Go 1.21 on (a test compares), and in Go 1.19 the
/// callers of casgstatus that set them.
const STILL_RUNNING: [&str; 11] = [
    "stopping the world",
    "GC mark termination",
    "garbage collection",
    "garbage collection scan",
    "trace goroutine status",
    "trace proc status",
    "page trace flush",
    "GC assist marking",
    "GC worker (active)",
    "flushing proc caches",
    "dumping heap",
];

/// Reasons for which only goroutines wait that do the collector's work: workers, the sweeper, the scavenger.
const COLLECTOR: [&str; 5] = [
    "GC worker (idle)",
    "GC worker (active)",
    "GC worker init",
    "GC sweep wait",
    "GC scavenge wait",
];

/// The wait reasons of one version of Go.
#[derive(Clone, Debug)]
pub struct Reasons {
    names: Vec<&'static str>,
    still_running: Vec<bool>,
    collector: Vec<bool>,
    coroutine: Option<u8>,
    preempted: Option<u8>,
    assist: Option<u8>,
}

impl Reasons {
    /// The reasons of Go 1.`minor`. A version that the table does not have is taken to have the numbers of the nearest
    /// one before it, as its structs are taken to have their layouts; but its reasons are named by number.
    pub fn of(minor: u32) -> Self {
        let versions = TABLE
            .lines()
            .filter_map(|line| line.strip_prefix("go1.")?.parse().ok());
        let nearest = versions.filter(|version: &u32| *version <= minor).max();
        let header = format!("go1.{}", nearest.unwrap_or(minor));
        let block = TABLE.lines().skip_while(|line| *line != header).skip(1);
        let names: Vec<&str> = block.map_while(|line| line.strip_prefix('\t')).collect();
        let number = |wanted: &str| {
            let at = names.iter().position(|name| *name == wanted)?;
            u8::try_from(at).ok()
        };
        Self {
            still_running: names.iter().map(|name| STILL_RUNNING.contains(name)).collect(),
            collector: names.iter().map(|name| COLLECTOR.contains(name)).collect(),
            coroutine: number("coroutine"),
            preempted: number("preempted"),
            assist: number("GC assist marking"),
            names: if nearest == Some(minor) { names } else { Vec::new() },
        }
    }

    /// The runtime's name of a reason.
    pub fn name(&self, reason: u8) -> String {
        match self.names.get(usize::from(reason)) {
            Some(&"") | None => format!("reason {reason}"),
            Some(name) => (*name).to_owned(),
        }
    }

    /// Whether a goroutine that waits for this reason keeps running.
    pub fn still_runs(&self, reason: u8) -> bool {
        self.still_running
            .get(usize::from(reason))
            .copied()
            .unwrap_or(false)
    }

    /// Whether only goroutines wait for this reason that do the collector's work.
    #[inline]
    pub fn is_collectors(&self, reason: u8) -> bool {
        self.collector.get(usize::from(reason)).copied().unwrap_or(false)
    }

    /// Whether a goroutine with this reason marks for the garbage collector in return for memory.
    pub fn is_assist(&self, reason: u8) -> bool {
        self.assist == Some(reason)
    }

    /// The number of "coroutine".
    pub fn coroutine(&self) -> u8 {
        self.coroutine.unwrap_or(0)
    }

    /// The number of "preempted".
    pub fn preempted(&self) -> u8 {
        self.preempted.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    #[test]
    fn numbers_differ_between_versions() {
        assert_eq!(Reasons::of(27).name(19), "chan receive");
        assert_eq!(Reasons::of(25).name(14), "chan receive");
        assert_eq!(Reasons::of(28).name(19), "reason 19");
        for minor in [27, 28] {
            assert!(Reasons::of(minor).still_runs(29) && !Reasons::of(minor).still_runs(19));
            let assists: Vec<u8> = (0..=u8::MAX)
                .filter(|n| Reasons::of(minor).is_assist(*n))
                .collect();
            assert!(matches!(assists[..], [one] if Reasons::of(minor).still_runs(one)));
        }
        assert_eq!(Reasons::of(27).name(Reasons::of(27).coroutine()), "coroutine");
    }

    /// Calls `check` for each toolchain, with the minor version of Go, the folder of the runtime's source, and the names
    /// of its wait reasons by their constants, in the order of their numbers.
    fn for_each_toolchain(check: impl Fn(u32, &Path, &[(String, String)])) {
        let roots = std::env::var_os("GMPSCOPE_GO_ROOTS")
            .expect("GMPSCOPE_GO_ROOTS must name Go toolchains: run the tests by `cargo xtask test`");
        let mut checked = 0;
        for root in std::env::split_paths(&roots) {
            let version = std::fs::read_to_string(root.join("VERSION")).unwrap();
            let minor = version.trim_start_matches("go1.");
            let minor: u32 = minor[..minor.find(|c: char| !c.is_ascii_digit()).unwrap()]
                .parse()
                .unwrap();
            let runtime = root.join("src/runtime");
            let source = std::fs::read_to_string(runtime.join("runtime2.go")).unwrap();
            let strings: BTreeMap<&str, &str> = source
                .lines()
                .filter_map(|line| line.trim().split_once(':'))
                .filter(|(name, _)| name.starts_with("waitReason"))
                .filter_map(|(name, text)| {
                    let text = text.trim().strip_prefix('"')?;
                    Some((name, &text[..text.find('"')?]))
                })
                .collect();
            let constants = source.lines().map(str::trim);
            let constants = constants
                .skip_while(|line| !line.starts_with("waitReasonZero"))
                .take_while(|line| !line.starts_with(')'));
            let names: Vec<(String, String)> = constants
                .filter_map(|line| line.split_ascii_whitespace().next())
                .filter(|word| word.starts_with("waitReason"))
                .map(|constant| (constant.to_owned(), strings[constant].to_owned()))
                .collect();
            check(minor, &runtime, &names);
            checked += 1;
        }
        assert!(checked > 0);
    }

    /// The table is the same as in the toolchains' own source.
    #[test]
    fn the_table_is_that_of_the_toolchains() {
        for_each_toolchain(|minor, _, names| {
            let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
            assert_eq!(Reasons::of(minor).names, names, "go1.{minor}");
        });
    }

    /// Each reason that the runtime sets for a goroutine that stays on its M is known as one.
    #[test]
    fn a_reason_that_the_runtime_sets_of_itself_is_known_to_keep_running() {
        for_each_toolchain(|minor, runtime, names| {
            if minor < 21 {
                // Reasons are set by assignments, which look like those before a real wait.
                return;
            }
            let mut constants = BTreeSet::new();
            for file in std::fs::read_dir(runtime).unwrap().flatten() {
                let path = file.path();
                if path.extension().is_none_or(|extension| extension != "go") {
                    continue;
                }
                let source = std::fs::read_to_string(path).unwrap();
                let calls = source
                    .lines()
                    .filter(|line| line.contains("casGToWaiting") || line.contains("forEachP("));
                let reasons = calls.flat_map(|call| call.split(|c: char| !c.is_ascii_alphanumeric()));
                let reasons = reasons.filter(|word| {
                    word.strip_prefix("waitReason")
                        .is_some_and(|name| !name.is_empty())
                });
                constants.extend(reasons.map(str::to_owned));
            }
            // It gives up its M: another goroutine makes the call that a debugger asks for.
            assert!(constants.remove("waitReasonDebugCall"), "go1.{minor}");
            assert!(constants.len() >= 6, "go1.{minor}: {constants:?}");
            for constant in constants {
                let number = names.iter().position(|(name, _)| *name == constant).unwrap();
                let number = u8::try_from(number).unwrap();
                assert!(Reasons::of(minor).still_runs(number), "go1.{minor}: {constant}");
            }
        });
    }
}
