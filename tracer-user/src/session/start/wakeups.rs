//! The part of the runner that handles what its clocks report: signals, the command's end, ticks.

use rustix::process::Signal;

use super::{
    Input,
    clocks::Woken,
    runner::{Runner, input_of},
};
use crate::{clock::now_ns, session::signals, stream::step::StartStep};

impl Runner {
    /// Converts what the clocks report to inputs, and forwards signals to the command.
    pub(super) fn handle_woken(&mut self, woken: Woken) -> Vec<Input> {
        match woken {
            Woken::Stop { number, sent } => {
                self.forward(number, sent);
                self.stop();
                // Whoever continued us does not know of the command, unless it is the terminal's shell.
                self.forward(libc::SIGCONT, sent);
                vec![]
            }
            Woken::Signal { number, sent } => {
                self.forward(number, sent);
                if !signals::ENDING.contains(&number) {
                    return vec![];
                }
                self.clocks.signal_forwarded(number, sent);
                vec![Input::Signal]
            }
            Woken::Interrupted => vec![Input::Signal],
            Woken::Unresponsive { number } => {
                let pid = self.held.as_ref().map_or(0, |held| held.pid);
                log::warn!("process {pid} does not end after a second signal, and is left alone");
                self.is_unresponsive = true;
                let code = u8::try_from(128 + number).unwrap_or(u8::MAX);
                vec![Input::CommandUnresponsive { code }]
            }
            Woken::CommandEnded => {
                // What the kernel has sent about the command comes before its end.
                let mut inputs = self.collect();
                inputs.push(self.command_ended());
                inputs
            }
            Woken::Tick => {
                let mut inputs = self.collect();
                inputs.extend(self.check_start());
                inputs.extend(input_of(self.consumers.poll(now_ns())));
                inputs
            }
            Woken::Interval => {
                let at_ns = now_ns();
                self.step(StartStep::Interval { at_ns }).into_iter().collect()
            }
            Woken::Settled => vec![Input::Settled],
            Woken::Duration => vec![Input::DurationElapsed],
        }
    }

    /// Forwards a signal that was sent to us alone; the terminal's reach the command as well.
    fn forward(&self, number: i32, sent: bool) {
        let Some(held) = self.held.as_ref().filter(|_| sent) else {
            return;
        };
        if let Some(signal) = Signal::from_named_raw(number)
            && let Err(e) = rustix::process::pidfd_send_signal(&held.pidfd, signal)
        {
            log::warn!(
                "signal {number} could not be forwarded to process {}: {e}",
                held.pid
            );
        }
    }

    fn command_ended(&mut self) -> Input {
        if let (Some(source), Some(held)) = (&mut self.source, &self.held)
            && let Err(e) = source.ignore_execs(held.pid)
        {
            log::warn!("{e}");
        }
        self.release_tree();
        match self.held.take().map(|mut held| held.status()) {
            Some(Ok(code)) => Input::CommandEnded { code },
            Some(Err(error)) => Input::NotExecuted { error },
            None => Input::CommandEnded { code: 0 },
        }
    }
}
