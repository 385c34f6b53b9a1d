//! The end of a capture, when nothing is attached any more: what was made has to reach its reader.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::signals::{Interrupts, THE_SAME};
use crate::{
    error::{Error, Failure, Result},
    output::sink::Sink,
    stream::recording::Recorder,
};

/// How long a reader is waited for once a signal has come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends the output, and waits until it is written. Without a signal for as long as its reader takes, as any program does; with one
/// not for long, and with another one not at all.
///
/// # Errors
/// It was not written, or not taken.
pub async fn deliver(sink: Sink, signals: &mut impl Interrupts) -> Result<()> {
    let closing = sink.finish()?;
    match in_time(closing.ended(), signals).await {
        true => closing.outcome(),
        false => Err(closing.not_taken()),
    }
}

/// Ends a recording: the outcome of the capture with that of its recording, which was not written whole if it is
/// incomplete.
///
/// # Errors
/// The capture's; [`Failure::Incomplete`] without a message where it was the recording alone.
pub async fn record<T>(recorder: &Recorder, outcome: Result<T>, signals: &mut impl Interrupts) -> Result<T> {
    recorder.close();
    in_time(recorder.written(), signals).await;
    let whole = recorder.is_whole();
    if let Some(why) = recorder.failure() {
        log::error!("{why}");
    }
    if outcome.is_ok() && !whole {
        return Err(Error {
            failure: Failure::Incomplete,
            message: String::new(),
        });
    }
    outcome
}

/// Whether `what` has ended before the patience of who sent signals.
async fn in_time(what: impl Future<Output = ()>, signals: &mut impl Interrupts) -> bool {
    let mut until = signals.have_come().then(|| Instant::now() + PATIENCE);
    let mut came = Instant::now();
    let mut what = std::pin::pin!(what);
    loop {
        tokio::select! {
            biased;
            () = &mut what => return true,
            () = elapsed(until) => return false,
            () = signals.next() => match until {
                Some(_) if came.elapsed() < THE_SAME => {}
                Some(_) => return false,
                None => {
                    came = Instant::now();
                    until = Some(came + PATIENCE);
                }
            },
        }
    }
}

async fn elapsed(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signals that come after so many milliseconds each.
    struct Script {
        coming: Vec<u64>,
        have_come: bool,
    }

    impl Interrupts for Script {
        fn have_come(&self) -> bool {
            self.have_come
        }

        async fn next(&mut self) {
            match self.coming.first() {
                Some(after) => tokio::time::sleep(Duration::from_millis(*after)).await,
                None => std::future::pending().await,
            }
            self.coming.remove(0);
            self.have_come = true;
        }
    }

    fn waits(coming: &[u64], have_come: bool, takes: Option<Duration>) -> (bool, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let mut script = Script {
            coming: coming.to_vec(),
            have_come,
        };
        runtime.block_on(async {
            let began = Instant::now();
            let what = async {
                match takes {
                    Some(takes) => tokio::time::sleep(takes).await,
                    None => std::future::pending().await,
                }
            };
            (in_time(what, &mut script).await, began.elapsed())
        })
    }

    #[test]
    fn a_reader_is_waited_for_until_a_signal_and_a_while_behind_it() {
        let short = Duration::from_millis(50);
        assert!(waits(&[], false, Some(short)).0);
        assert!(waits(&[1], false, Some(short)).0, "it is not given up at once");
        assert!(waits(&[], true, Some(short)).0);
        // Nobody takes it.
        let (taken, after) = waits(&[1], false, None);
        assert!(!taken && after >= PATIENCE, "{after:?}");
        let (taken, after) = waits(&[1, 200], false, None);
        assert!(!taken && after < PATIENCE, "{after:?}");
        let (taken, after) = waits(&[200], true, None);
        assert!(!taken && after < PATIENCE, "{after:?}");
        let (taken, after) = waits(&[1, 1], false, None);
        assert!(!taken && after >= PATIENCE, "both are one: {after:?}");
    }
}
