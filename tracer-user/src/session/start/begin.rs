//! Builds a [`Runner`] from the options of `run` and `attach --next`.

use std::process::ExitCode;

use super::{
    Policy, StartsOf,
    child::Invocation,
    clocks::{Clocks, Listening},
    descriptor_limit::DescriptorLimit,
    identity::Identity,
    launcher,
    post_start::PostStart,
    program::{self, Program},
    programs::Programs,
    runner::Runner,
    tree::Tree,
};
use crate::{
    error::{Error, Failure, Result},
    output::sink::Sink,
    session::{
        consumers::{Consumers, Destinations},
        options::{AttachOptions, FullOptions, NextOptions, RunOptions, TargetSelector},
    },
    sources::starts::gate::{self, Asker},
};

/// Runs a command, and traces how it starts. Returns the command's own status.
///
/// # Errors
/// [`Failure::NotStarted`], [`Failure::NotExecutable`] and [`Failure::NotFound`] where the command was not
/// started.
pub async fn run(options: RunOptions) -> Result<ExitCode> {
    let before = |e: Error| Error {
        failure: Failure::NotStarted,
        ..e
    };
    let identity = Identity::chosen(options.user.as_deref())?;
    let (name, arguments) = options
        .command
        .split_first()
        .ok_or_else(|| Error::usage("name the command to run after `--`"))?;
    let path = program::find(name)?;
    let tree = options.follow;
    let sink = match &options.output.path {
        Some(path) => Sink::open(Some(path)).map_err(before)?,
        None => Sink::stderr(),
    };
    let latencies = options.latencies.map(|latencies| AttachOptions {
        target: TargetSelector::Pid(0),
        duration: options.duration,
        mode: latencies.mode,
        format: options.output.format,
        output: options.output.path.clone(),
        interval: options.output.interval,
        slower: latencies.slower,
        by: latencies.by,
        record: None,
        runs_already: false,
        force: false,
        sample_rate: None,
        full: FullOptions::default(),
        chatter: options.output.chatter,
    });
    let render = latencies
        .as_ref()
        .map_or_else(|| options.output.render(), AttachOptions::render);
    let consumers = Consumers::open(Destinations {
        render,
        sink,
        record: options.output.record.as_deref(),
        stacks: false,
    })
    .map_err(before)?;
    let programs = match tree {
        true => Programs::Tree(Tree::new(path.clone())),
        false => {
            let opened = Program::open(&path).map_err(|e| launcher::explain(e, &path, arguments));
            Programs::One(Box::new(opened.map_err(before)?))
        }
    };
    // With latencies, duration and interval apply to their capture.
    let ours = options.latencies.is_none();
    let (clocks, signal_mask) = Clocks::new(
        options.duration.filter(|_| ours),
        options.output.interval.filter(|_| ours),
        Listening::ForCommand { stops: tree },
    )
    .map_err(before)?;
    // Each program that is held or probed takes descriptors.
    let descriptor_limit = tree.then(DescriptorLimit::raise).flatten();
    if tree {
        gate::enough_descriptors(Asker::Follow).map_err(before)?;
    }
    let invocation = Invocation {
        program: path,
        name: name.clone(),
        arguments: arguments.to_vec(),
        identity,
        signal_mask,
        descriptor_limit,
    };
    let policy = Policy {
        starts_of: StartsOf::Command { runs: options.repeat },
        with_latencies: options.latencies.is_some(),
        tree,
        whole_binary: false,
    };
    let mut runner = Runner::new(
        programs,
        clocks,
        policy,
        &options.output,
        consumers,
        Some(invocation),
    );
    runner.post_start = PostStart::new(latencies);
    runner.run().await
}

/// Waits for the next starts of a binary, whoever makes them.
///
/// # Errors
/// The error that ended the capture.
pub async fn next(options: NextOptions) -> Result<ExitCode> {
    let sink = Sink::open(options.output.path.as_deref())?;
    let consumers = Consumers::open(Destinations {
        render: options.output.render(),
        sink,
        record: options.output.record.as_deref(),
        stacks: false,
    })?;
    let programs = Programs::One(Box::new(Program::open(&options.exe)?));
    // Each start that is held takes descriptors.
    if !options.whole_binary {
        DescriptorLimit::raise();
    }
    let (clocks, _) = Clocks::new(options.duration, options.output.interval, Listening::ForOurselves)?;
    let policy = Policy {
        starts_of: StartsOf::Binary {
            starts: options.starts,
        },
        with_latencies: false,
        tree: false,
        whole_binary: options.whole_binary,
    };
    Runner::new(programs, clocks, policy, &options.output, consumers, None)
        .run()
        .await
}
