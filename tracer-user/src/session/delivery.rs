//! The end of a capture, when nothing is attached any more: waits until the readers have taken all output.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    signals::{Interrupts, SAME_SIGNAL},
    timers,
};
use crate::{error::Result, stream::Consumer};

/// How long to wait for a reader that takes nothing, once a signal has come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends all outputs, and waits until each is written. Without a signal, that takes as long as the reader needs, as in
/// any program; after one signal it waits while the reader makes progress, after a second one not at all.
///
/// # Errors
/// Something was not written, or not taken. Of several errors, the first that has a message.
pub async fn deliver(consumers: Vec<Box<dyn Consumer>>, signals: &mut impl Interrupts) -> Result<()> {
    // All are ended before any is waited for: whatever the reader of the result does, a recording is complete.
    let closings: Vec<_> = consumers.into_iter().map(|consumer| consumer.close()).collect();
    let mut outcome = Ok(());
    for closing in closings {
        let closed = match closing {
            Ok(closing) => {
                let waited = wait_for_steps(async || closing.writes_more().await, signals, PATIENCE).await;
                closing.outcome(waited)
            }
            Err(e) => Err(e),
        };
        outcome = first_error(outcome, closed);
    }
    outcome
}

/// Returns the error of two outcomes; of two errors the first that has a message.
pub fn first_error(first: Result<()>, second: Result<()>) -> Result<()> {
    match (first, second) {
        (Ok(()), other) | (other, Ok(())) => other,
        (Err(first), Err(second)) => Err(match first.message.is_empty() {
            true => second,
            false => first,
        }),
    }
}

/// Repeats `step` until it returns true, for the last step, or until a second signal, or until a step takes longer than
/// `patience` after a signal. Returns whether the last step was made.
async fn wait_for_steps(
    step: impl AsyncFn() -> bool,
    signals: &mut impl Interrupts,
    patience: Duration,
) -> bool {
    let mut until = signals.received_any().then(|| Instant::now() + patience);
    let mut came = Instant::now();
    loop {
        tokio::select! {
            biased;
            was_last = step() => match was_last {
                true => return true,
                false => until = until.map(|_| Instant::now() + patience),
            },
            () = timers::until(until) => return false,
            () = signals.next() => match until {
                Some(_) if came.elapsed() < SAME_SIGNAL => {}
                Some(_) => return false,
                None => {
                    came = Instant::now();
                    until = Some(came + patience);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(500);

    /// Signals that come after so many milliseconds each.
    struct Script {
        coming: Vec<u64>,
        received_any: bool,
    }

    impl Interrupts for Script {
        fn received_any(&self) -> bool {
            self.received_any
        }

        async fn next(&mut self) {
            match self.coming.first() {
                Some(after) => tokio::time::sleep(Duration::from_millis(*after)).await,
                None => std::future::pending().await,
            }
            self.coming.remove(0);
            self.received_any = true;
        }
    }

    /// Runs [`wait_for_steps`] with steps that take these milliseconds each; without any, nothing is ever taken.
    fn waits(coming: &[u64], received_any: bool, steps: &[u64]) -> (bool, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let mut script = Script {
            coming: coming.to_vec(),
            received_any,
        };
        runtime.block_on(async {
            let began = Instant::now();
            let ends: Vec<Instant> = steps
                .iter()
                .scan(began, |end, step| {
                    *end += Duration::from_millis(*step);
                    Some(*end)
                })
                .collect();
            let step = async || {
                let now = Instant::now();
                match ends.iter().find(|end| **end > now) {
                    Some(end) => tokio::time::sleep_until(*end).await,
                    None => std::future::pending().await,
                }
                ends.last().is_none_or(|last| *last <= Instant::now())
            };
            (wait_for_steps(step, &mut script, SHORT).await, began.elapsed())
        })
    }

    #[test]
    fn a_reader_is_waited_for_until_a_signal_and_a_while_behind_it() {
        assert!(waits(&[], false, &[50]).0);
        assert!(waits(&[1], false, &[50]).0, "it is not given up at once");
        assert!(waits(&[], true, &[50]).0);
        let slow = [400, 400, 1];
        assert!(waits(&[], true, &slow).0, "it is slow, and takes what there is");
        assert!(!waits(&[], true, &[1, 600]).0, "it has taken something, once");
        // Nobody takes it.
        let (taken, after) = waits(&[1], false, &[]);
        assert!(!taken && after >= SHORT, "{after:?}");
        let (taken, after) = waits(&[1, 200], false, &[]);
        assert!(!taken && after < SHORT, "{after:?}");
        let (taken, after) = waits(&[200], true, &[]);
        assert!(!taken && after < SHORT, "{after:?}");
        let (taken, after) = waits(&[1, 1], false, &[]);
        assert!(!taken && after >= SHORT, "both are one: {after:?}");
    }
}
