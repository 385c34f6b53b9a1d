//! Writes a recording while the capture continues. A separate thread compresses and writes, and nobody waits for it: a
//! disk that does not keep up ends the recording, and does not delay the capture, whose probes would stay in the
//! target. The alternative was to drop blocks and to continue; but later blocks depend on the names and steps in
//! earlier ones.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    path::Path,
    time::{Duration, Instant},
};

use super::{asked::Asked, block, encoder::Encoder};
use crate::{
    error::{Error, Result},
    escape::Untrusted,
    stream::{
        Event, HistogramKey, Kind, Observation, Step, Symbolizer,
        transition::{Transition, What, status},
    },
    writing::{
        file::{OutputFile, Streamed},
        writer::{Target, Writer},
    },
};

/// Most bytes that wait to be written. If there are more, the disk has not kept up for seconds.
const MOST_WAITING: usize = 32 << 20;
/// How long to wait for a disk that takes nothing at all, after the capture has ended.
const SILENCE: Duration = Duration::from_secs(10);
/// How long an observation may wait before it is handed to the writer: so much is missing if we are killed.
const LATEST: Duration = Duration::from_secs(1);

/// A file that a capture is recorded into.
pub struct Recorder {
    encoder: Encoder,
    /// Whether the calls at addresses in stacks are recorded.
    has_frames: bool,
    /// Addresses whose names were recorded, where they have one.
    named: Asked,
    /// Addresses whose calls were recorded, where they are known.
    framed: Asked,
    handed_over: Instant,
    destination: Destination,
    /// The writer's thread, once there is something to be recorded.
    writer: Option<Writer>,
    /// Why the recording has ended early, except for errors of the writer.
    failed: Option<String>,
    /// Whether its early end was reported.
    is_reported: bool,
    closed: bool,
}

/// The file of a recording, which is not changed before there is something to be recorded.
struct Destination {
    /// The open file, until the writer takes it.
    file: Option<OutputFile>,
    name: String,
}

/// The writer's target: seals blocks and writes them.
struct Blocks {
    file: Streamed,
    has_head: bool,
}

impl Target for Blocks {
    fn write(&mut self, raw: &[u8]) -> io::Result<()> {
        if !std::mem::replace(&mut self.has_head, true) {
            self.file.write(&block::head())?;
        }
        self.file.write(&block::seal(raw))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.file.finish()
    }
}

impl Recorder {
    /// Opens a file, or stdout for `-`. The file keeps its contents until a window opens.
    ///
    /// # Errors
    /// The file cannot be written, or another capture records into it.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            encoder: Encoder::default(),
            has_frames: false,
            named: Asked::default(),
            framed: Asked::default(),
            handed_over: Instant::now(),
            destination: Destination::open(path)?,
            writer: None,
            failed: None,
            is_reported: false,
            closed: false,
        })
    }

    /// Sets whether the calls at the addresses in stacks are recorded, too.
    #[must_use]
    pub fn with_frames(mut self, has_frames: bool) -> Self {
        self.has_frames = has_frames;
        self
    }

    /// Empties the file and starts the writer, now that there is something to be recorded.
    pub(super) fn begin(&mut self) {
        if self.writer.is_some() || self.failed.is_some() {
            return;
        }
        match self.destination.begin() {
            Ok(writer) => self.writer = Some(writer),
            Err(e) => self.fail(&e.to_string()),
        }
        self.hand_over(true);
    }

    /// Records a step.
    pub(super) fn record_step(&mut self, step: &Step) {
        if !self.has_ended() {
            self.encoder.step(&step.to_json());
            self.hand_over(true);
        }
    }

    /// Records what was observed, and before it the names of the addresses in it.
    pub(super) fn record(&mut self, seen: &[Observation], names: &dyn Symbolizer) {
        if self.has_ended() {
            return;
        }
        if self.has_frames {
            self.record_frames(seen, names);
        }
        let new = self.named.select(names.revision(), |ask| {
            seen.iter()
                .for_each(|observation| each_address(observation, &mut *ask));
        });
        if !new.is_empty() {
            names.prepare(&new);
            let named: BTreeMap<u64, Untrusted> = new
                .iter()
                .filter_map(|address| Some((*address, names.function_at(*address)?)))
                .collect();
            self.named.note(&new, |address| named.contains_key(&address));
            self.encoder
                .names(named.iter().map(|(address, name)| (*address, name.raw())));
        }
        self.encoder.observations(seen);
        let late = self.handed_over.elapsed() >= LATEST;
        self.hand_over(late);
    }

    /// Records the calls at the addresses in stacks, and of `go` statements.
    fn record_frames(&mut self, seen: &[Observation], names: &dyn Symbolizer) {
        let new = self.framed.select(names.revision(), |ask| {
            for observation in seen {
                each_address(observation, &mut *ask);
                if let Kind::Stacks(stacks) = &observation.kind {
                    let pcs = stacks.new.iter().flat_map(|stack| &stack.pcs);
                    pcs.for_each(|pc| ask(*pc));
                }
            }
        });
        if new.is_empty() {
            return;
        }
        let frames = names.frames(&new);
        self.framed.note(&new, |address| frames.contains_key(&address));
        let frames = frames
            .iter()
            .map(|(address, frames)| (*address, frames.as_slice()));
        self.encoder.frames(frames);
    }

    /// Returns why the recording has ended before the capture, the first time that it is asked.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        if self.is_reported {
            return None;
        }
        let failure = self.failure()?;
        self.is_reported = true;
        Some(failure)
    }

    /// Ends the recording; blocks that wait are still written.
    pub(super) fn end(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        if self.failure().is_none() {
            self.encoder.end();
            self.hand_over(true);
        }
        if let Some(writer) = &self.writer {
            writer.close();
        }
    }

    /// Waits until more is written. Returns whether that was the last of it, or the disk takes nothing any more.
    pub(super) async fn writes_more(&self) -> bool {
        let Some(writer) = &self.writer else {
            return true;
        };
        if !writer.has_ended() && tokio::time::timeout(SILENCE, writer.progress()).await.is_err() {
            return true;
        }
        writer.has_ended()
    }

    /// Whether all of it was written. What is not written by now will not be.
    pub(super) fn is_whole(&mut self) -> bool {
        // What the system has taken is written even if we end.
        let is_cut = |writer: &Writer| !writer.has_ended() && !writer.is_drained();
        if self.failure().is_none() && self.writer.as_ref().is_some_and(is_cut) {
            self.failed = Some(format!(
                "the recording {} is cut off: nobody takes the rest of it",
                self.destination.name
            ));
        }
        self.failure().is_none() && self.encoder.left_out() == 0
    }

    /// Whether there is something that was not handed to the writer.
    #[cfg(test)]
    pub(super) fn is_holding(&self) -> bool {
        !self.encoder.is_empty()
    }

    /// Ends the recording, and waits for the disk. Returns whether all of it was written.
    #[cfg(test)]
    pub(super) fn finish(&mut self) -> bool {
        self.end();
        if let Some(writer) = &self.writer {
            writer.wait(None);
        }
        self.is_whole()
    }

    /// Whether the recording has failed. If so, drops what will not be written.
    fn has_ended(&mut self) -> bool {
        let ended = self.failure().is_some();
        if ended && !self.encoder.is_empty() {
            self.encoder = Encoder::default();
        }
        ended
    }

    /// Hands the blocks that are full to the writer; with `all`, also the one that is not.
    fn hand_over(&mut self, all: bool) {
        let Some(writer) = &self.writer else {
            return;
        };
        if all {
            self.handed_over = Instant::now();
        }
        for block in self.encoder.take(all) {
            if self.failed.is_none() && !writer.offer(block, MOST_WAITING) {
                // Blocks that wait are still written: the recording is cut off here.
                writer.close();
                self.failed = Some(self.destination.ended(&format!(
                    "it does not take what is seen, and {} MiB wait",
                    MOST_WAITING >> 20
                )));
            }
        }
    }

    /// Returns why the recording has ended before the capture, if it has.
    fn failure(&self) -> Option<String> {
        let of_thread = || {
            let trouble = self.writer.as_ref()?.failure()?;
            Some(self.destination.ended(&trouble.message))
        };
        self.failed.clone().or_else(of_thread)
    }

    fn fail(&mut self, why: &str) {
        self.failed = Some(self.destination.ended(why));
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recorder").field(&self.destination.name).finish()
    }
}

/// Calls `visit` with each address in an observation whose name may be shown: the creation sites.
fn each_address(observation: &Observation, mut visit: impl FnMut(u64)) {
    match &observation.kind {
        Kind::Event(Event::SlowWait(wait)) => visit(wait.gopc.unwrap_or(0)),
        Kind::HistogramDelta(delta) => {
            if let HistogramKey::CreationSite(gopc) = delta.key {
                visit(gopc);
            }
        }
        Kind::Transitions(all) => all
            .iter()
            .filter(|it| creates_goroutine(it))
            .for_each(|it| visit(it.detail)),
        Kind::Scheduler(all) => all.goroutines.iter().for_each(|seen| visit(seen.gopc)),
        Kind::Ongoing(seen) => {
            let runnable = seen.runnable.iter().flat_map(|runnable| &runnable.goroutines);
            runnable.for_each(|goroutine| visit(goroutine.gopc));
        }
        _ => {}
    }
}

/// Whether a transition creates a goroutine: then its detail is the creation site; see [`What::Goroutine`].
fn creates_goroutine(transition: &Transition) -> bool {
    let (old, new) = transition.statuses();
    let is_dead = |status| matches!(status, status::DEAD | status::IDLE | status::DEADEXTRA);
    transition.what == What::Goroutine as u8 && is_dead(old) && !is_dead(new)
}

impl Destination {
    fn open(path: &Path) -> Result<Self> {
        let name = Untrusted::path(path).to_string();
        if path == Path::new("-") {
            return Self::stdout();
        }
        let file = OutputFile::open(path).map_err(|e| {
            Error::failed(format!(
                "{name} cannot be recorded into: {e}; choose another file with --record"
            ))
        })?;
        Ok(Self {
            file: Some(file),
            name,
        })
    }

    fn stdout() -> Result<Self> {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(Error::usage(
                "--record - would write a recording to the terminal: send it to a file or a pipe",
            ));
        }
        let file = stdout
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| Error::failed(format!("stdout cannot be recorded into: {e}")))?;
        Ok(Self {
            file: Some(OutputFile::stream(File::from(file), "stdout")),
            name: "on stdout".to_owned(),
        })
    }

    /// Starts the writer's thread, which empties the file and fills it.
    fn begin(&mut self) -> io::Result<Writer> {
        let file = self
            .file
            .take()
            .ok_or_else(|| io::Error::other("it was begun before"))?;
        let blocks = Blocks {
            file: Streamed::new(file),
            has_head: false,
        };
        Writer::start("recorder", blocks)
    }

    fn ended(&self, why: &str) -> String {
        format!(
            "the recording {} has ended, and the capture continues: {why}",
            self.name
        )
    }
}
