use std::process::Command;

use super::*;

fn shell(name: &str, script: &str) -> Job {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Job::new("step", name, command)
}

fn nothing_more(_: &str) -> Result<Vec<Job>> {
    Ok(Vec::new())
}

#[test]
fn jobs_that_need_the_machine_alone_run_after_the_others_and_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let noted = |name: &str| {
        let log = log.display();
        shell(
            name,
            &format!("echo begin {name} >> {log}; sleep 0.2; echo end {name} >> {log}"),
        )
    };
    let jobs = vec![
        noted("alone1").lane(Lane::Alone),
        noted("alone2").lane(Lane::Alone),
        noted("build1")
            .lane(Lane::Build(Folder::Debug))
            .makes(Product::Package),
        noted("build2").lane(Lane::Build(Folder::Debug)),
        noted("together").needs(Product::Package),
    ];
    let report = run(jobs, &nothing_more);
    assert_eq!(report.counts(), Counts { passed: 5, failed: 0 });
    let log = std::fs::read_to_string(&log).unwrap();
    let at = |line: &str| log.lines().position(|l| l == line).unwrap();
    assert!(at("end build1") < at("begin build2"), "{log}");
    assert!(at("end build1") < at("begin together"), "{log}");
    for other in ["build2", "together"] {
        assert!(at(&format!("end {other}")) < at("begin alone1"), "{log}");
    }
    assert!(at("end alone1") < at("begin alone2"), "{log}");
}

#[test]
fn jobs_that_need_a_failed_build_are_counted_as_failed() {
    let jobs = vec![
        shell("guest", "exit 1")
            .counted(Counted::Build)
            .makes(Product::FuzzTargets),
        shell("seeds", "true")
            .needs(Product::FuzzTargets)
            .makes(Product::FuzzSeeds),
        shell("fuzz", "true").needs(Product::FuzzSeeds),
        shell("nobody makes it", "true").needs(Product::Package),
        shell("other", "true"),
    ];
    let report = run(jobs, &nothing_more);
    assert_eq!(report.counts(), Counts { passed: 1, failed: 4 });
}

#[test]
fn the_output_of_their_build_names_the_tests() {
    let build = shell("tests", "echo one; echo two; echo more >&2")
        .counted(Counted::Build)
        .makes(Product::Tests);
    let expand = |printed: &str| {
        let tests = printed.lines().map(|name| {
            let result = "test result: ok. 3 passed; 0 failed";
            shell(name, &format!("echo '{result}'")).counted(Counted::Tests)
        });
        Ok(tests.collect())
    };
    assert_eq!(
        run(vec![build], &expand).counts(),
        Counts { passed: 6, failed: 0 }
    );
}

#[test]
fn a_build_whose_tests_are_not_found_has_failed() {
    let build = shell("tests", "echo one")
        .counted(Counted::Build)
        .makes(Product::Tests);
    let expand = |_: &str| -> Result<Vec<Job>> { Err(anyhow::anyhow!("no test's name contains `two`")) };
    let report = run(vec![build, shell("other", "true")], &expand);
    assert_eq!(report.counts(), Counts { passed: 1, failed: 1 });
    assert!(report.print(&["step"]).is_err());
}

#[test]
fn only_a_test_that_compares_times_is_run_again() {
    let folder = tempfile::tempdir().unwrap();
    // Passes from the second time on.
    let second = |name: &str| {
        let file = folder.path().join(name).display().to_string();
        shell(name, &format!("[ -e {file} ] || {{ touch {file}; exit 1; }}"))
    };
    let mut times = second("times");
    times.retry = true;
    let report = run(vec![times, second("truth")], &nothing_more);
    assert_eq!(report.counts(), Counts { passed: 1, failed: 1 });
    assert_eq!(report.retried(), ["times"]);
}

#[test]
fn tests_that_measure_times_once_more_are_listed() {
    let script = "echo 'measured once more: p99' >&2; echo 'test result: ok. 1 passed; 0 failed'";
    let report = run(vec![shell("it", script).counted(Counted::Tests)], &nothing_more);
    assert_eq!(report.counts(), Counts { passed: 1, failed: 0 });
    assert_eq!(report.measured_again(), ["it: p99"]);
}

#[test]
fn a_test_that_did_not_run_has_failed() {
    for script in [
        "echo 'test result: ok. 0 passed; 0 failed; 7 filtered out'",
        "exit 101",
        "true",
        "echo 'test result: ok. 2 passed; 0 failed'; exit 101",
    ] {
        let report = run(vec![shell("it", script).counted(Counted::Tests)], &nothing_more);
        assert_eq!(report.counts().failed, 1, "{script}");
    }
}
