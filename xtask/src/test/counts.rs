//! Counts passed and failed tests in the output of a command.

/// Numbers of tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many passed.
    pub passed: u64,
    /// How many failed.
    pub failed: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The sum of the closing lines of test programs, and the number of these lines.
pub fn of_tests(printed: &str) -> (Counts, usize) {
    let mut sum = Counts::default();
    let mut programs = 0;
    for counts in printed.lines().filter_map(closing_line) {
        sum += counts;
        programs += 1;
    }
    (sum, programs)
}

/// The counts of the last line of the form `N passed, N failed`.
pub fn of_last_line(printed: &str) -> Option<Counts> {
    printed.lines().rev().find_map(|line| {
        let (passed, failed) = line.split_once(" passed, ")?;
        Some(Counts {
            passed: passed.parse().ok()?,
            failed: failed.strip_suffix(" failed")?.parse().ok()?,
        })
    })
}

/// The counts of `test result: ok. 12 passed; 0 failed; …`, the closing line of each test program.
fn closing_line(line: &str) -> Option<Counts> {
    let (_, numbers) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for part in numbers.split(';') {
        match part.trim().split_once(' ') {
            Some((n, "passed")) => counts.passed = n.parse().ok()?,
            Some((n, "failed")) => counts.failed = n.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_closing_lines_of_test_programs() {
        let printed = "running 2 tests\n\
                       test target::elf::reads_a_header ... ok\n\
                       test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.20s\n\
                       test result: ok. 2 passed; 0 failed; 0 ignored\n\
                       test result: ok\n";
        let sum = Counts {
            passed: 14,
            failed: 3,
        };
        assert_eq!(of_tests(printed), (sum, 2));
        assert_eq!(of_tests("thread panicked"), (Counts::default(), 0));
    }

    #[test]
    fn the_last_line_of_a_part_counts() {
        let printed = "3 passed, 4 failed\nmore\n12 passed, 1 failed\n\n";
        let counts = Counts {
            passed: 12,
            failed: 1,
        };
        assert_eq!(of_last_line(printed), Some(counts));
        assert_eq!(of_last_line("all passed, none failed"), None);
    }
}
