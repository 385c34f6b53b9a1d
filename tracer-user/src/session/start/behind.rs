//! The latencies of a command behind `main.main`: a capture of its own that goes on beside, and is printed with
//! how the command started.

use std::{pin::Pin, sync::Arc};

use tokio::sync::Notify;

use crate::{
    error::{Error, Result},
    output::sink::Sink,
    process::file::{FileId, FileState},
    session::{
        attach::{
            capturing::Began,
            prepare::Prepared,
            runner::{self, Captured},
        },
        options::{AttachOptions, TargetSelector},
        signals::Signals,
    },
    stream::recording::Recorder,
};

/// What is wanted of them, and the capture while it lasts.
#[derive(Default)]
pub struct Behind {
    wanted: Option<AttachOptions>,
    running: Option<Pin<Box<dyn Future<Output = Captured>>>>,
    interrupt: Arc<Notify>,
}

impl Behind {
    /// Nothing, or what these options say, of whichever process it will be.
    pub fn new(wanted: Option<AttachOptions>) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }

    /// The process that has come to `main.main`, analysed; `None` if nothing is wanted. `program` is what it ran then.
    ///
    /// # Errors
    /// It has ended or executed another program since, or cannot be traced.
    pub fn analyse(
        &mut self,
        pid: u32,
        program: Option<FileId>,
    ) -> Result<Option<(AttachOptions, Prepared)>> {
        let Some(mut options) = self.wanted.take() else {
            return Ok(None);
        };
        options.target = TargetSelector::Pid(pid);
        let executed = || {
            Error::not_traceable(format!(
                "process {pid} executed another program right after it had come to main.main"
            ))
        };
        let target = Prepared::new(&options).map_err(|e| {
            // What could not be analysed may be that other one.
            let runs = FileState::known_at(&format!("/proc/{pid}/exe")).ok();
            match program.zip(runs) {
                Some((program, runs)) if program != runs.id => executed(),
                _ => e,
            }
        })?;
        if program.is_some_and(|program| program != target.file_id()) {
            return Err(executed());
        }
        Ok(Some((options, target)))
    }

    /// Goes on with it.
    pub fn go_on(
        &mut self,
        options: AttachOptions,
        target: Prepared,
        sink: Sink,
        began: Began,
        recorder: Recorder,
    ) {
        let signals = Signals::relayed(Arc::clone(&self.interrupt));
        let capture = runner::capture(options, target, sink, Some(began), recorder, signals);
        self.running = Some(Box::pin(capture));
    }

    /// Whether it lasts.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends it as a signal would.
    pub fn interrupt(&self) {
        self.interrupt.notify_one();
    }

    /// Its end; never, if it does not last.
    pub async fn ended(&mut self) -> Captured {
        let result = match &mut self.running {
            Some(running) => running.await,
            None => std::future::pending().await,
        };
        self.running = None;
        result
    }
}
