//! Which end-to-end tests may run beside others, and which compare times. The one place where it is declared; what is
//! not named here has the machine to itself and is never run again.

/// Tests whose verdict does not depend on what else the machine does: they start programs of their own and look at
/// these alone, compare counts or answers and not times, and pass on a machine where everything is compiled
/// meanwhile. A whole program, or single tests; the long ones first, since that is the order in which they run.
const TOGETHER: &[&str] = &[
    "workloads::every_workload_builds_with_every_toolchain",
    "config",
    "errors",
];

/// Tests that compare times with those of another clock, within tolerances that a machine which is doing something
/// else for a moment exceeds. Should one fail, it is run once more, and the summary says so. A test that compares
/// counts, or looks for what must not be there, does not belong here.
const COMPARE_TIMES: &[&str] = &["known"];

/// Whether an end-to-end test, `program::test`, may run beside others.
pub fn is_together(test: &str) -> bool {
    place_in(TOGETHER, test).is_some()
}

/// Whether it compares times, and may be run once more.
pub fn compares_times(test: &str) -> bool {
    place_in(COMPARE_TIMES, test).is_some()
}

/// Its place among those that run beside others; the last for all that do not.
pub fn place(test: &str) -> usize {
    place_in(TOGETHER, test).unwrap_or(TOGETHER.len())
}

fn place_in(table: &[&str], test: &str) -> Option<usize> {
    let program = test.split("::").next().unwrap_or(test);
    table.iter().position(|&entry| entry == test || entry == program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn a_test_is_found_by_its_name_or_its_programs() {
        let table = ["config", "sites::one"];
        assert_eq!(place_in(&table, "config::anything"), Some(0));
        assert_eq!(place_in(&table, "sites::one"), Some(1));
        assert_eq!(place_in(&table, "sites::one_more"), None);
        assert_eq!(place_in(&table, "configuration::x"), None);
        assert!(!is_together("a_program_that_nobody_has_written::yet"));
        assert!(!compares_times("a_program_that_nobody_has_written::yet"));
    }

    #[test]
    fn every_entry_names_a_test_that_exists() {
        let folder = paths::root().join("tests/tests");
        for entry in TOGETHER.iter().chain(COMPARE_TIMES) {
            let (program, test) = entry.split_once("::").unwrap_or((entry, ""));
            let file = folder.join(format!("{program}.rs"));
            let source = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{entry}: {e}"));
            assert!(
                source.contains(&format!("fn {test}")),
                "{entry} is in no test program"
            );
        }
    }
}
