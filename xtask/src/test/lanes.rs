//! Declares which end-to-end tests may run beside others, and which compare times. A test that is not named here has
//! the machine to itself and is never run again.

/// Tests whose verdict does not depend on the load of the machine. They start programs of their own and look only at
/// these; compare counts or answers but not times; probe no whole binary, watch no host, and answer no execve of
/// others; and pass on a machine that is compiling meanwhile. An entry is a whole program or a single test. They run
/// in this order, so the long ones come first.
const TOGETHER: &[&str] = &[
    "workloads::every_variant_builds_with_every_toolchain",
    "workloads::every_workload_builds_with_every_toolchain",
    "sites",
    "profiles",
    "golden",
    "errors",
    "config",
    "commands::an_endless_capture_ends_when_nobody_reads_it_any_more",
    "commands::inspect_tells_how_a_file_was_built_and_plans_all_modes",
    "commands::doctor_says_that_this_machine_can_do_everything",
    "commands::doctor_tells_a_plain_user_what_is_missing",
    "commands::wrong_usage_ends_with_2_and_prints_nothing_to_stdout",
    "commands::settings_come_from_the_environment_and_the_command_line_wins",
    "commands::a_reader_that_goes_away_is_no_error",
    "recording::each_mode_is_replayed_to_the_byte",
    "recording::intervals_slow_waits_and_splits_are_replayed_as_they_were_reported",
    "recording::a_start_with_the_latencies_behind_it_is_replayed_to_the_byte",
    "recording::what_was_recorded_when_gmpscope_was_killed_is_shown",
    "recording::a_recording_that_cannot_go_on_does_not_end_the_capture",
    "recording::a_recording_goes_through_pipes",
    "recording::what_is_no_recording_is_refused",
    "run::the_status_and_the_streams_are_the_commands_own",
    "run::the_environment_and_the_working_directory_are_the_callers",
    "run::a_signal_reaches_the_command",
    "run::a_command_outlives_a_tracer_that_is_killed",
    "run::a_command_runs_as_the_user_who_called_sudo",
    "run::the_go_command_starts_and_builds",
    "rules::threads_in_system_calls_and_a_limit_that_is_near",
    "rules::a_leak_a_gomaxprocs_that_changes_and_a_scheduler_that_prints",
    "rules::every_rule_has_a_scene_or_a_reason_and_every_scene_a_test",
    "lifecycle::a_target_that_ends_meanwhile",
    "lifecycle::a_target_that_becomes_another_program",
    "lifecycle::a_target_that_starts_itself_anew",
    "lifecycle::passive_puts_nothing_into_the_target",
    "passive_source::a_process_that_is_gone_is_an_error_that_says_so",
];

/// Tests that compare times with those of another clock, within tolerances that a short disturbance of the machine
/// exceeds. If one fails, it is run once more, and the summary says so. A test that compares counts, or asserts that
/// something is absent, does not belong here.
const COMPARE_TIMES: &[&str] = &[
    "known::a_spinner_makes_others_wait_one_preemption_step",
    "known::the_kth_of_those_released_at_once_waits_k_times_the_loop",
    "known::sixty_four_on_two_ps_wait_sixty_two_times_the_window",
    "known::the_measured_overhead_is_that_of_the_programs_own_clock",
    "commands::inspect_foretells_what_sampling_a_process_costs",
    "init::the_runtimes_own_clock_agrees",
    "init::first_and_last_moment_agree_with_outside_clocks",
    "lifecycle::the_duration_is_kept",
    "passive_source::a_hundred_thousand_goroutines_are_estimated_within_the_budget",
    "daemon_load::a_burst_costs_no_more_than_was_agreed_to",
    "cause_estimate::intervals_hold_what_full_saw_in_nine_of_ten_windows",
    "cause_estimate::the_mean_number_of_waiting_goroutines_and_their_mean_wait_are_those_of_full",
    "cause_estimate::the_daemon_counts_how_long_goroutines_wait",
];

/// Whether an end-to-end test, `program::test`, may run beside others.
pub fn is_together(test: &str) -> bool {
    position_in(TOGETHER, test).is_some()
}

/// Whether an end-to-end test compares times, and may be run once more.
pub fn compares_times(test: &str) -> bool {
    position_in(COMPARE_TIMES, test).is_some()
}

/// The position of a test among those that may run beside others; tests that may not come last.
pub fn position(test: &str) -> usize {
    position_in(TOGETHER, test).unwrap_or(TOGETHER.len())
}

fn position_in(table: &[&str], test: &str) -> Option<usize> {
    let program = test.split("::").next().unwrap_or(test);
    table.iter().position(|&entry| entry == test || entry == program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn a_test_is_found_by_its_name_or_that_of_its_program() {
        let table = ["config", "sites::one"];
        assert_eq!(position_in(&table, "config::anything"), Some(0));
        assert_eq!(position_in(&table, "sites::one"), Some(1));
        assert_eq!(position_in(&table, "sites::one_more"), None);
        assert_eq!(position_in(&table, "configuration::x"), None);
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
