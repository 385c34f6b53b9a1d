//! The stories of docs/stories.md: the first line of the answer names what keeps goroutines waiting, and it is gone once
//! something has been done about it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::again::{Verdict, once_more};
use gmpscope_tests::run::Attach;
use gmpscope_tests::story::{Scene, Seen, Story};
use gmpscope_tests::{Variant, machine, toolchain};
use serde_json::Value;
use tracer_user::model::sched::Cause;

/// How long clients are asked what they see.
const SYMPTOM: Duration = Duration::from_millis(1500);
/// The length of a capture.
const CAPTURE: Duration = Duration::from_millis(1500);

/// What clients see, and a capture.
struct Look {
    seen: Seen,
    capture: Value,
}

impl Look {
    fn at(scene: &Scene) -> Result<Self> {
        let seen = scene.symptom(SYMPTOM)?;
        let attach = |pid| Attach::to(pid).mode("full").duration(CAPTURE).run();
        let outcome = scene.under_load(attach)?;
        ensure!(
            outcome.code() == 0,
            "ended with {}: {}",
            outcome.code(),
            outcome.stderr
        );
        let json = outcome.json.context("no capture was written")?;
        Ok(Self {
            seen,
            capture: serde_json::from_str(&json)?,
        })
    }

    fn number(&self, pointer: &str) -> u64 {
        self.capture.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The first line of the answer up to the second cause that it names: the largest one comes first.
    fn largest_cause(&self) -> Result<&str> {
        let line = self.capture.pointer("/answer/0").and_then(Value::as_str);
        let line = line.context("the capture has no answer")?;
        Ok(line.split(';').next().unwrap_or(line))
    }

    fn total_ns(&self, cause: Cause) -> u64 {
        self.number(&format!("/by_cause/{}/total_ns", cause.name()))
    }

    /// All waiting. What yields of its own will does not wait.
    fn waited_ns(&self) -> u64 {
        let causes = Cause::ALL.into_iter().filter(|cause| *cause != Cause::Yielded);
        causes.map(|cause| self.total_ns(cause)).sum()
    }

    /// The waiting behind goroutines that this function made.
    fn held_ns(&self, creation_site: &str) -> u64 {
        let culprits = self.capture.get("culprits").and_then(Value::as_array);
        let mut culprits = culprits.into_iter().flatten();
        let found = culprits.find(|culprit| culprit["creation_site"].as_str() == Some(creation_site));
        found.and_then(|culprit| culprit["held_ns"].as_u64()).unwrap_or(0)
    }

    /// A sum of waiting times over the length of the capture: how many goroutines waited at a time.
    fn mean(&self, waited_ns: u64) -> f64 {
        waited_ns as f64 / self.number("/capture/duration_ns").max(1) as f64
    }

    /// For messages.
    fn describe(&self) -> String {
        format!(
            "{:?}\n{:#?}\n{:#?}",
            self.seen,
            self.capture.get("answer"),
            self.capture.get("culprits")
        )
    }
}

/// Whether the cause was that of most of the waiting, and is largely due to the culprit if there is one. Where it is so,
/// the answer must name both first: that does not depend on times.
fn is_named(story: Story, look: &Look) -> Result<Verdict> {
    let (cause, named) = (story.cause(), look.largest_cause()?);
    let (of_cause_ns, waited_ns) = (look.total_ns(cause), look.waited_ns());
    if of_cause_ns <= waited_ns / 2 {
        return Ok(Verdict::TooLong(format!(
            "{} is {of_cause_ns} of {waited_ns} ns: {}",
            cause.name(),
            look.describe()
        )));
    }
    ensure!(
        named.contains(cause.phrase()),
        "{} is not named first: {}",
        cause.name(),
        look.describe()
    );
    let Some(culprit) = story.culprit() else {
        return Ok(Verdict::Holds);
    };
    let held_ns = look.held_ns(culprit);
    if held_ns <= of_cause_ns / 2 {
        return Ok(Verdict::TooLong(format!(
            "{culprit} has {held_ns} of {of_cause_ns} ns: {}",
            look.describe()
        )));
    }
    ensure!(
        named.contains(culprit),
        "{culprit} is not named first: {}",
        look.describe()
    );
    Ok(Verdict::Holds)
}

/// Whether less than a fifth is left, of the cause and of what its culprit held, and answers come much sooner.
fn is_gone(story: Story, before: &Look, after: &Look) -> Verdict {
    let is_less = |was_ns, is_ns| after.mean(is_ns) < before.mean(was_ns) / 5.0;
    let cause = story.cause();
    let mut left = Vec::new();
    if !is_less(before.total_ns(cause), after.total_ns(cause)) {
        left.push(format!("{} is still there", cause.name()));
    }
    if let Some(culprit) = story.culprit()
        && !is_less(before.held_ns(culprit), after.held_ns(culprit))
    {
        left.push(format!("{culprit} still holds Ps"));
    }
    if after.seen.p99_ns >= before.seen.p99_ns / 2 {
        left.push("the clients see no difference".to_owned());
    }
    Verdict::unless(!left.is_empty(), || {
        format!(
            "{}; before: {}\nafter: {}",
            left.join("; "),
            before.describe(),
            after.describe()
        )
    })
}

/// Lives through a story. Everything but what the answer says of its own figures depends on the load of the machine, and is
/// looked at once more if it is wrong.
fn check(story: Story) -> Result<()> {
    let _one = machine();
    let program = Variant::Stripped.build(&toolchain::newest()?, "shop")?;
    once_more(|| {
        let mut scene = Scene::begin(story, &program)?;
        let before = Look::at(&scene)?;
        let named = is_named(story, &before)?;
        if let Verdict::TooLong(_) = named {
            return Ok(named);
        }
        scene.remedy()?;
        let after = Look::at(&scene)?;
        Ok(is_gone(story, &before, &after))
    })
}

#[test]
fn a_quota_that_is_used_up_is_named_until_it_is_raised() -> Result<()> {
    check(Story::Throttled)
}

#[test]
fn who_saturates_a_server_is_named_until_it_is_corrected() -> Result<()> {
    check(Story::Saturated)
}

#[test]
fn a_noisy_neighbour_is_noticed_until_it_is_moved() -> Result<()> {
    check(Story::Neighbour)
}
