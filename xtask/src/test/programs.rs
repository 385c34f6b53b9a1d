//! Makes jobs of the test programs that cargo has compiled: one for each program of unit tests, and one for each
//! end-to-end test, since only some of these may run beside others.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::job::{Counted, Job, Lane, Product};
use super::lanes;
use crate::setup::{prometheus, services};
use crate::{arch::Arch, deb, go, paths, step};

/// The package whose integration tests are the end-to-end tests.
const END_TO_END: &str = "gmpscope-tests";

/// The seed of property tests.
const PROPERTY_SEED: &str = "14";

/// How long an end-to-end test that has the machine to itself may take. Others may take as long as any job: the first of
/// them build the same Go programs that later ones use, beside other builds.
const END_TO_END_LIMIT: Duration = Duration::from_secs(10 * 60);

/// The line of the summary for unit tests.
pub const UNIT_STEP: &str = "unit tests";
/// The line of the summary for end-to-end tests.
pub const END_TO_END_STEP: &str = "end-to-end tests";

/// The parts of a line of `cargo test --message-format=json` that are read.
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    executable: Option<PathBuf>,
    profile: Option<Profile>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

/// A compiled test program.
#[derive(Debug)]
struct Program {
    /// The name of its package.
    package: String,
    /// The kind of its target: `lib`, `bin` or `test`.
    kind: String,
    /// The name of its target.
    name: String,
    executable: PathBuf,
    /// The folder of its package, in which cargo would run it.
    folder: PathBuf,
}

/// The command that compiles every test program of the workspace and prints their paths.
pub fn compile() -> Command {
    let mut cargo = paths::cargo();
    cargo.args([
        "test",
        "--workspace",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    cargo
}

/// The jobs that run the test programs, from what [`compile`] printed. With a filter, only those of tests whose name
/// contains one of its words.
///
/// # Errors
/// What cargo printed names no program, a program does not list its tests, or no test's name contains a word of the
/// filter.
pub fn jobs(printed: &str, filter: &[String], fast: bool) -> Result<Vec<Job>> {
    let programs = programs(printed)?;
    ensure!(!programs.is_empty(), "cargo names no test program");
    let mut jobs = Vec::new();
    let mut searched = Searched::default();
    for program in &programs {
        let mut tests = program.tests()?;
        searched.add(program, &tests);
        tests.retain(|test| program.is_wanted(test, filter));
        if program.is_end_to_end() {
            for test in tests {
                jobs.push(program.single(&test, fast)?);
            }
        } else if !tests.is_empty() {
            jobs.push(program.whole(&tests, !filter.is_empty(), fast)?);
        }
    }
    searched.check(filter)?;
    // The table of tests that may run beside others has the long ones first.
    jobs.sort_by_key(|job| lanes::position(&job.name));
    Ok(jobs)
}

/// The names in which the words of a filter are looked for.
#[derive(Debug, Default)]
struct Searched {
    unit: Vec<String>,
    end_to_end: Vec<String>,
}

impl Searched {
    fn add(&mut self, program: &Program, tests: &[String]) {
        let names = tests.iter().map(|test| program.full_name(test));
        match program.is_end_to_end() {
            true => self.end_to_end.extend(names),
            false => self.unit.extend(names),
        }
    }

    /// Fails at the first word that no name contains: a misspelt name would otherwise run nothing, and pass.
    fn check(&self, filter: &[String]) -> Result<()> {
        for word in filter {
            let mut names = self.unit.iter().chain(&self.end_to_end);
            ensure!(
                names.any(|name| name.contains(word.as_str())),
                "no test's name contains `{word}`: looked at {} unit tests (`module::test`) and {} end-to-end tests \
                 (`program::test`); checks of the source, fuzzing and virtual machines have no such names",
                self.unit.len(),
                self.end_to_end.len()
            );
        }
        Ok(())
    }
}

fn programs(printed: &str) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for line in printed.lines().filter(|line| line.starts_with('{')) {
        let message: Message =
            serde_json::from_str(line).with_context(|| format!("reading cargo's message {line}"))?;
        if message.reason != "compiler-artifact" || message.profile.is_none_or(|profile| !profile.test) {
            continue;
        }
        let (Some(executable), Some(target), Some(manifest)) =
            (message.executable, message.target, message.manifest_path)
        else {
            continue;
        };
        let folder = manifest.parent().context("a manifest without a folder")?;
        programs.push(Program {
            package: package_name(&message.package_id).to_owned(),
            kind: target.kind.into_iter().next().unwrap_or_default(),
            name: target.name,
            executable,
            folder: folder.to_owned(),
        });
    }
    Ok(programs)
}

/// The name of a package from its id: `path+file:///repository/xtask#0.1.0`, or, if folder and name differ,
/// `…/tests#gmpscope-tests@0.1.0`.
fn package_name(id: &str) -> &str {
    let (path, version) = id.rsplit_once('#').unwrap_or((id, ""));
    match version.split_once('@') {
        Some((name, _)) => name,
        None => path.rsplit('/').next().unwrap_or(path),
    }
}

impl Program {
    fn is_end_to_end(&self) -> bool {
        self.package == END_TO_END && self.kind == "test"
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.executable);
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env("GMPSCOPE_GO_ROOTS", std::env::join_paths(go::installed_roots()?)?)
            .env("GMPSCOPE_CACHE", paths::cache()?)
            // With random inputs a run could have another result each time. `cargo test` by hand, without the seed,
            // tries new inputs.
            .env("PROPTEST_RNG_SEED", PROPERTY_SEED);
        Ok(command)
    }

    /// Lists its tests.
    fn tests(&self) -> Result<Vec<String>> {
        let listed = step::output(self.command()?.args(["--list", "--format", "terse"]))
            .with_context(|| format!("listing the tests of {}", self.executable.display()))?;
        Ok(listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .map(str::to_owned)
            .collect())
    }

    fn is_wanted(&self, test: &str, filter: &[String]) -> bool {
        let full = self.full_name(test);
        filter.is_empty() || filter.iter().any(|word| full.contains(word.as_str()))
    }

    /// The name by which a test is selected and shown; for an end-to-end test with the name of its program in front.
    fn full_name(&self, test: &str) -> String {
        match self.is_end_to_end() {
            true => format!("{}::{test}", self.name),
            false => test.to_owned(),
        }
    }

    /// The job that runs these of its tests: all, or with `filtered` those that the filter has left.
    fn whole(&self, tests: &[String], filtered: bool, fast: bool) -> Result<Job> {
        let mut command = self.command()?;
        if filtered {
            command.arg("--exact").args(tests);
        }
        let name = format!("{} {} {}", self.package, self.kind, self.name);
        let mut job = if self.package == END_TO_END {
            set_environment(&mut command, fast)?;
            command.arg("--test-threads=1");
            Job::new(UNIT_STEP, name, command).needs(Product::Package)
        } else {
            Job::new(UNIT_STEP, name, command)
        };
        job.counted = Counted::Tests;
        Ok(job)
    }

    /// The job that runs one test in a process of its own.
    fn single(&self, test: &str, fast: bool) -> Result<Job> {
        let name = self.full_name(test);
        let mut command = self.command()?;
        set_environment(&mut command, fast)?;
        command.args(["--exact", test, "--test-threads=1"]);
        let lane = match lanes::is_together(&name) {
            true => Lane::Together,
            false => Lane::Alone,
        };
        let mut job = Job::new(END_TO_END_STEP, name, command)
            .counted(Counted::Tests)
            .lane(lane)
            .needs(Product::Package);
        job.retry = lanes::compares_times(&job.name);
        if lane == Lane::Alone {
            job.at_most = END_TO_END_LIMIT;
        }
        Ok(job)
    }
}

/// Sets the variables that the tests crate reads: which binary to test, where to find things, and how much to test.
fn set_environment(command: &mut Command, fast: bool) -> Result<()> {
    command
        .env("GMPSCOPE_BIN", paths::release_binary())
        .env("GMPSCOPE_DEB", deb::path(Arch::native()))
        .env("GMPSCOPE_PROMETHEUS", prometheus::folder()?)
        .env("GMPSCOPE_SERVICES", services::folder()?)
        .env("GMPSCOPE_TESTS", if fast { "fast" } else { "full" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn test_programs_are_found_in_the_messages_of_cargo() {
        let printed = r#"
{"reason":"compiler-artifact","package_id":"registry+https://github.com/rust-lang/crates.io-index#libc@0.2.1","manifest_path":"/r/libc/Cargo.toml","target":{"kind":["lib"],"name":"libc"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///w/tests#gmpscope-tests@0.1.0","manifest_path":"/w/tests/Cargo.toml","target":{"kind":["test"],"name":"sites"},"profile":{"test":true},"executable":"/w/target/debug/deps/sites-1"}
{"reason":"compiler-artifact","package_id":"path+file:///w/xtask#0.1.0","manifest_path":"/w/xtask/Cargo.toml","target":{"kind":["bin"],"name":"xtask"},"profile":{"test":true},"executable":"/w/target/debug/deps/xtask-1"}
{"reason":"build-finished","success":true}
"#;
        let found = programs(printed).unwrap();
        let names: Vec<(&str, &str, bool)> = found
            .iter()
            .map(|p| (p.package.as_str(), p.name.as_str(), p.is_end_to_end()))
            .collect();
        assert_eq!(
            names,
            [("gmpscope-tests", "sites", true), ("xtask", "xtask", false)]
        );
        assert_eq!(found[0].folder, Path::new("/w/tests"));
        assert_eq!(found[0].full_name("stripping"), "sites::stripping");
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert!(found[0].is_wanted("stripping", &[]));
        assert!(found[0].is_wanted("stripping", &words(&["no", "strip"])));
        assert!(!found[1].is_wanted("stripping", &words(&["xtask"])));
    }

    #[test]
    fn a_name_that_no_test_has_is_an_error() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let searched = Searched {
            unit: names(&["arch::tests::every_name_is_understood"]),
            end_to_end: names(&["sites::stripping", "sites::pie"]),
        };
        assert!(searched.check(&[]).is_ok());
        assert!(searched.check(&names(&["strip", "arch::"])).is_ok());
        let error = searched
            .check(&names(&["strip", "stirp"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("`stirp`"), "{error}");
        assert!(error.contains("1 unit tests"), "{error}");
        assert!(error.contains("2 end-to-end tests"), "{error}");
    }

    #[test]
    fn no_program_is_an_error() {
        assert!(jobs("{\"reason\":\"build-finished\"}\n", &[], false).is_err());
    }
}
