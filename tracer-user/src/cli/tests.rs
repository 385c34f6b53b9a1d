//! What the command line accepts and refuses.

use std::time::Duration;

use clap::{CommandFactory, Parser, error::ErrorKind};

use super::*;
use crate::{
    duration,
    error::Failure,
    plan::Mode,
    session::options::{AttachOptions, Format, SplitBy, TargetSelector},
};

fn options(args: &str) -> Result<AttachOptions, crate::error::Error> {
    let cli = Cli::try_parse_from(args.split(' ')).unwrap_or_else(|e| panic!("{args}: {e}"));
    match cli.command {
        Command::Attach(attach) => attach.into_options(cli.verbosity),
        other => panic!("{args}: {other:?}"),
    }
}

fn refused(args: &str) -> ErrorKind {
    Cli::try_parse_from(args.split(' '))
        .map(|cli| panic!("{args}: {cli:?}"))
        .unwrap_err()
        .kind()
}

#[test]
fn clap_finds_no_fault_with_the_definitions() {
    Cli::command().debug_assert();
}

#[test]
fn the_first_example_means_what_it_says() {
    let options = options("gmpscope attach -p 4711 --duration 10s").unwrap();
    assert_eq!(options.target, TargetSelector::Pid(4711));
    assert_eq!(options.duration, Some(Duration::from_secs(10)));
    assert_eq!(options.mode, None);
    assert_eq!(options.format, Format::Text);
}

#[test]
fn a_recording_is_not_the_result() {
    let request = |args: &str| {
        let cli = Cli::try_parse_from(args.split(' ')).unwrap_or_else(|e| panic!("{args}: {e}"));
        match cli.command {
            Command::Attach(attach) => attach.into_request(cli.verbosity).map(drop),
            Command::Run(run) => run.into_options(cli.verbosity).map(drop),
            other => panic!("{args}: {other:?}"),
        }
    };
    for (args, refused) in [
        ("gmpscope attach -p 1 -o x.gmps --record x.gmps", true),
        ("gmpscope attach -p 1 -o ./x.gmps --record x.gmps", true),
        ("gmpscope run -o /x.gmps --record /tmp/../x.gmps -- true", true),
        ("gmpscope attach -p 1 -o x.json --record x.gmps", false),
        ("gmpscope attach -p 1 -o /no/such/folder/x --record x", false),
        ("gmpscope attach -p 1 -o /dev/null --record /dev/null", false),
    ] {
        let failure = request(args).err().map(|e| e.failure);
        assert_eq!(failure, refused.then_some(Failure::Usage), "{args}");
    }
}

#[test]
fn durations_are_written_as_in_go() {
    for (text, ns) in [
        ("500ms", 500_000_000),
        ("10s", 10_000_000_000),
        ("2m", 120_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1.5s", 1_500_000_000),
        ("100us", 100_000),
        ("100µs", 100_000),
        ("250ns", 250),
        ("2h", 7_200_000_000_000),
    ] {
        assert_eq!(duration::positive(text), Ok(Duration::from_nanos(ns)), "{text}");
    }
    for text in [
        "",
        "10",
        "s",
        "-1s",
        "0s",
        "0ms",
        "ten seconds",
        "1mo",
        "1x",
        "1s1",
        "99999999999h",
        "10000h",
    ] {
        assert!(duration::positive(text).is_err(), "{text}");
    }
    assert!(duration::period("9ms").is_err());
}

#[test]
fn one_way_to_name_the_target_and_no_more() {
    assert_eq!(refused("gmpscope attach"), ErrorKind::MissingRequiredArgument);
    assert_eq!(
        refused("gmpscope attach -p 1 --comm x"),
        ErrorKind::ArgumentConflict
    );
    assert_eq!(refused("gmpscope attach -p 0"), ErrorKind::ValueValidation);
    assert_eq!(refused("gmpscope attach -p 4194305"), ErrorKind::ValueValidation);
    assert_eq!(refused("gmpscope attach -p x"), ErrorKind::ValueValidation);
    assert_eq!(refused("gmpscope attach --comm="), ErrorKind::InvalidValue);
    let target = |args| options(args).unwrap().target;
    assert_eq!(
        target("gmpscope attach --comm caddy"),
        TargetSelector::Comm("caddy".into())
    );
    assert_eq!(
        target("gmpscope attach --exe /usr/bin/x"),
        TargetSelector::Exe("/usr/bin/x".into())
    );
}

#[test]
fn what_a_mode_cannot_give_is_wrong_usage() {
    for args in [
        "gmpscope attach -p 1 --mode passive --slower 1ms",
        "gmpscope attach -p 1 --by origin",
        "gmpscope attach -p 1 --mode sampled --by origin",
        "gmpscope attach -p 1 --mode exact --by creation-site",
        "gmpscope attach -p 1 --mode passive --by creation-site",
        "gmpscope attach -p 1 --by cause",
        "gmpscope attach -p 1 --mode exact --by cause",
        "gmpscope attach -p 1 --mode passive --by cause",
        "gmpscope attach -p 1 --by wait-reason",
        "gmpscope attach -p 1 --mode exact --by wait-reason",
    ] {
        assert_eq!(options(args).unwrap_err().failure, Failure::Usage, "{args}");
    }
    assert_eq!(
        options("gmpscope attach -p 1 -m exact --by origin").unwrap().by,
        Some(SplitBy::Origin)
    );
    assert_eq!(
        options("gmpscope attach -p 1 -m exact --by origin").unwrap().mode,
        Some(Mode::Exact)
    );
    assert_eq!(
        options("gmpscope attach -p 1 --by creation-site").unwrap().by,
        Some(SplitBy::CreationSite)
    );
    for (name, by) in [("cause", SplitBy::Cause), ("wait-reason", SplitBy::WaitReason)] {
        let args = format!("gmpscope attach -p 1 --mode full --by {name}");
        assert_eq!(options(&args).unwrap().by, Some(by));
    }
}

#[test]
fn samples_are_taken_as_the_mode_suggests_or_as_often_as_is_asked() {
    let rate = |args| options(args).unwrap().sample_rate;
    assert_eq!(rate("gmpscope attach -p 1"), None);
    assert_eq!(rate("gmpscope attach -p 1 --sample-rate 0"), Some(0));
    assert_eq!(rate("gmpscope attach -p 1 -m full --sample-rate 250"), Some(250));
    for rate in ["-1", "1001", "x"] {
        assert_eq!(
            refused(&format!("gmpscope attach -p 1 --sample-rate={rate}")),
            ErrorKind::ValueValidation,
            "{rate}"
        );
    }
}

#[test]
fn a_dash_is_stdout() {
    assert_eq!(options("gmpscope attach -p 1 -o -").unwrap().output, None);
    assert_eq!(
        options("gmpscope attach -p 1 -o x").unwrap().output,
        Some("x".into())
    );
}

#[test]
fn digits_alone_are_a_pid() {
    let subject = |target: &str| {
        let cli = Cli::try_parse_from(["gmpscope", "inspect", target]).unwrap();
        match cli.command {
            Command::Inspect(inspect) => inspect.subject(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(subject("4711"), Subject::Pid(4711));
    assert_eq!(subject("./4711"), Subject::File("./4711".into()));
    assert_eq!(subject("+1"), Subject::File("+1".into()));
    assert_eq!(subject("99999999999"), Subject::File("99999999999".into()));
}

/// Returns a command and all its subcommands.
fn every(command: &clap::Command) -> Vec<clap::Command> {
    std::iter::once(command.clone())
        .chain(command.get_subcommands().flat_map(every))
        .collect()
}

#[test]
fn help_fits_80_columns_and_teaches() {
    let mut command = Cli::command();
    command.build();
    for mut sub in every(&command) {
        for help in [sub.render_help(), sub.render_long_help()] {
            let help = help.to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", sub.get_name());
            }
            assert!(help.contains("EXAMPLES"), "{}", sub.get_name());
        }
    }
}

/// The command reference consists of `--help`: this test writes docs/commands.md if GMPSCOPE_UPDATE_DOCS is set, and
/// compares with it otherwise.
#[test]
fn the_command_reference_is_up_to_date() {
    let mut reference = String::from(
        "# Command reference\n\nWhat `gmpscope --help` and `gmpscope COMMAND --help` say. Made by `GMPSCOPE_UPDATE_DOCS=1 \
         cargo test -p tracer-user command_reference`.\n",
    );
    let mut command = Cli::command().term_width(80);
    command.build();
    for mut command in every(&command) {
        let help = command.render_long_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let name = command.get_bin_name().unwrap_or("gmpscope");
        reference += &format!("\n## {name}\n\n```text\n{}\n```\n", lines.join("\n"));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");
    if std::env::var_os("GMPSCOPE_UPDATE_DOCS").is_some() {
        std::fs::write(path, reference).unwrap();
        return;
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == reference,
        "{path} is not what --help says: GMPSCOPE_UPDATE_DOCS=1 cargo test -p tracer-user command_reference"
    );
}

#[test]
fn stacks_are_reported_in_full_alone_and_as_many_as_are_asked_for() {
    let stacks =
        |args: &str| options(&format!("gmpscope attach -p 1 --mode full {args}")).map(|o| o.full.stacks);
    assert_eq!(stacks("--no-threads").unwrap(), None);
    assert_eq!(
        stacks("--stacks").unwrap(),
        Some(tracer_ebpf::stacks::DEFAULT_STACKS)
    );
    assert_eq!(stacks("--stacks=100").unwrap(), Some(100));
    for wrong in ["--stacks=0", "--stacks=65537", "--stacks=many"] {
        let args = format!("gmpscope attach -p 1 --mode full {wrong}");
        assert_eq!(refused(&args), ErrorKind::ValueValidation, "{wrong}");
    }
    let error = options("gmpscope attach -p 1 --mode exact --stacks").unwrap_err();
    assert_eq!(error.failure, Failure::Usage);
    assert!(error.message.contains("--mode full"), "{error}");
}
