//! The latencies of a command from `main.main` on: a second capture beside that of the start, with the same consumers,
//! whose result is printed together with the start.

use std::{pin::Pin, sync::Arc};

use tokio::sync::Notify;

use crate::{
    error::{Error, Result},
    process::file::{FileId, FileState},
    session::{
        attach::{prepare::Prepared, runner},
        consumers::Consumers,
        options::{AttachOptions, TargetSelector},
        signals::Signals,
    },
};

/// The options of the latencies, and their capture while it is running.
#[derive(Default)]
pub struct PostStart {
    wanted: Option<AttachOptions>,
    running: Option<Pin<Box<dyn Future<Output = Result<()>>>>>,
    interrupt: Arc<Notify>,
}

impl PostStart {
    /// Returns a capture with these options, of a process that is not known yet; `None`: there will be none.
    pub fn new(wanted: Option<AttachOptions>) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }

    /// Analyses the process whose start has ended; `None` if nothing is wanted. `program` is what it ran then.
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
                "process {pid} executed another program right after its start"
            ))
        };
        let target = Prepared::new(&options).map_err(|e| {
            // What could not be analysed may be that other program.
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

    /// Begins the capture.
    pub fn begin(&mut self, options: AttachOptions, target: Prepared, consumers: Consumers) {
        let mut signals = Signals::relayed(Arc::clone(&self.interrupt));
        self.running = Some(Box::pin(async move {
            runner::capture(options, target, consumers, &mut signals).await
        }));
    }

    /// Whether the capture is running.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends the capture as a signal would.
    pub fn interrupt(&self) {
        self.interrupt.notify_one();
    }

    /// Waits for the end of the capture; for ever if none is running.
    pub async fn ended(&mut self) -> Result<()> {
        let result = match &mut self.running {
            Some(running) => running.await,
            None => std::future::pending().await,
        };
        self.running = None;
        result
    }
}
