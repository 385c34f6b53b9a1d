//! Writes a recording while the capture goes on. A thread of its own compresses and writes, so that a slow disk does
//! not hold up the reading of the kernel's buffers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, IsTerminal as _, Write as _},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{block, encoder::Encoder};
use crate::{
    error::{Error, Result},
    escape::Untrusted,
    stream::{
        Event, HistogramKey, Kind, Observation,
        transition::{Transition, What, status},
    },
    target::Frame,
};

/// Blocks that may wait to be written, some 8 MiB. Past that the disk is waited for, and what the kernel's buffers
/// then lose is counted there.
const QUEUE: usize = 64;
/// What was observed longer ago than this is handed to the disk: so much is missing if we are killed.
const LATEST: Duration = Duration::from_secs(1);

/// Where a capture is recorded; nowhere by default. Clones record into the same file.
#[derive(Clone, Default)]
pub struct Recorder(Option<Rc<RefCell<Recording>>>);

/// A file that is recorded into.
struct Recording {
    encoder: Encoder,
    named: HashSet<u64>,
    /// Addresses whose calls were asked for.
    framed: HashSet<u64>,
    handed_over: Instant,
    destination: Destination,
    writer: Option<Writer>,
    failed: Arc<OnceLock<String>>,
    told: bool,
}

/// An open file, of which nothing was changed.
struct Destination {
    file: File,
    name: String,
    regular: bool,
    /// To be removed if nothing is recorded: it was not there before.
    made: Option<PathBuf>,
}

/// The thread.
struct Writer {
    blocks: SyncSender<Vec<u8>>,
    thread: JoinHandle<()>,
}

impl Recorder {
    /// Opens a file, or stdout for `-`; none for none. What is in the file stays until [`Self::begin`].
    ///
    /// # Errors
    /// The file cannot be written, or another capture records into it.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        Ok(Self(Some(Rc::new(RefCell::new(Recording {
            encoder: Encoder::default(),
            named: HashSet::new(),
            framed: HashSet::new(),
            handed_over: Instant::now(),
            destination: Destination::open(path)?,
            writer: None,
            failed: Arc::default(),
            told: false,
        })))))
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// There is something to be recorded: what was in the file goes.
    pub fn begin(&self) {
        if let Some(recording) = &self.0 {
            recording.borrow_mut().begin();
        }
    }

    /// Records a step. `json` is only made where it is needed.
    pub fn step(&self, json: impl FnOnce() -> Vec<u8>) {
        if let Some(recording) = &self.0 {
            let mut recording = recording.borrow_mut();
            if recording.has_ended() {
                return;
            }
            recording.encoder.step(&json());
            recording.hand_over(true);
        }
    }

    /// Records what was observed, and before it the names of the addresses in it, which `names` looks up.
    pub fn observe(&self, seen: &[Observation], names: impl FnOnce(&[u64]) -> Vec<(u64, Untrusted)>) {
        let Some(recording) = &self.0 else {
            return;
        };
        let mut recording = recording.borrow_mut();
        if recording.has_ended() {
            return;
        }
        let mut new = BTreeSet::new();
        for observation in seen {
            each_address(observation, |address| {
                if address != 0 && !recording.named.contains(&address) {
                    new.insert(address);
                }
            });
        }
        if !new.is_empty() {
            let new: Vec<u64> = new.into_iter().collect();
            let names = names(&new);
            recording.named.extend(new);
            recording
                .encoder
                .names(names.iter().map(|(address, name)| (*address, name.raw())));
        }
        recording.encoder.observations(seen);
        let late = recording.handed_over.elapsed() >= LATEST;
        recording.hand_over(late);
    }

    /// Records the calls at the addresses in stacks, and of `go` statements, which `frames` looks up. To be called before
    /// [`Self::observe`] where stacks are shown.
    pub fn frames(&self, seen: &[Observation], frames: impl FnOnce(&[u64]) -> BTreeMap<u64, Vec<Frame>>) {
        let Some(recording) = &self.0 else {
            return;
        };
        let mut recording = recording.borrow_mut();
        if recording.has_ended() {
            return;
        }
        let mut new = BTreeSet::new();
        for observation in seen {
            let mut ask = |address| {
                if address != 0 && !recording.framed.contains(&address) {
                    new.insert(address);
                }
            };
            each_address(observation, &mut ask);
            if let Kind::Stacks(stacks) = &observation.kind {
                stacks
                    .new
                    .iter()
                    .flat_map(|stack| &stack.pcs)
                    .for_each(|pc| ask(*pc));
            }
        }
        if new.is_empty() {
            return;
        }
        let new: Vec<u64> = new.into_iter().collect();
        let frames = frames(&new);
        recording.framed.extend(new);
        let frames = frames
            .iter()
            .map(|(address, frames)| (*address, frames.as_slice()));
        recording.encoder.frames(frames);
    }

    /// Why the recording has ended before the capture, the first time that it is asked for.
    pub fn failure(&self) -> Option<String> {
        let mut recording = self.0.as_ref()?.borrow_mut();
        if recording.told {
            return None;
        }
        let failure = recording.failed.get()?.clone();
        recording.told = true;
        Some(failure)
    }

    /// Whether there is something that has not been given to the thread that writes.
    #[cfg(test)]
    pub(super) fn is_holding(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|recording| !recording.borrow().encoder.is_empty())
    }

    /// Ends the recording; whether all of it was written.
    pub fn finish(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|recording| recording.borrow_mut().finish())
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recorder").field(&self.is_on()).finish()
    }
}

/// Tells the addresses in an observation that may be shown by their names: creation sites.
fn each_address(observation: &Observation, mut tell: impl FnMut(u64)) {
    match &observation.kind {
        Kind::Event(Event::SlowWait(wait)) => tell(wait.gopc.unwrap_or(0)),
        Kind::HistogramDelta(delta) => {
            if let HistogramKey::CreationSite(gopc) = delta.key {
                tell(gopc);
            }
        }
        Kind::Transitions(all) => all
            .iter()
            .filter(|it| is_birth(it))
            .for_each(|it| tell(it.detail)),
        Kind::Scheduler(all) => all.goroutines.iter().for_each(|seen| tell(seen.gopc)),
        _ => {}
    }
}

/// Whether its detail is a creation site: see [`What::Goroutine`].
fn is_birth(transition: &Transition) -> bool {
    let (old, new) = transition.statuses();
    let is_dead = |status| matches!(status, status::DEAD | status::IDLE | status::DEADEXTRA);
    transition.what == What::Goroutine as u8 && is_dead(old) && !is_dead(new)
}

impl Recording {
    fn begin(&mut self) {
        if self.writer.is_some() || self.failed.get().is_some() {
            return;
        }
        match self.destination.begin(Arc::clone(&self.failed)) {
            Ok(writer) => self.writer = Some(writer),
            Err(e) => self.fail(&e),
        }
        self.hand_over(true);
    }

    /// Whether it has failed: then nothing is kept that nobody will write.
    fn has_ended(&mut self) -> bool {
        let ended = self.failed.get().is_some();
        if ended && !self.encoder.is_empty() {
            self.encoder = Encoder::default();
        }
        ended
    }

    fn hand_over(&mut self, all: bool) {
        let Some(writer) = &self.writer else {
            return;
        };
        if all {
            self.handed_over = Instant::now();
        }
        for block in self.encoder.take(all) {
            if writer.blocks.send(block).is_err() {
                // The thread has ended, and has said why.
                self.writer = None;
                return;
            }
        }
    }

    fn fail(&self, e: &io::Error) {
        let _ = self.failed.set(format!(
            "the recording {} has ended, and the capture goes on: {e}",
            self.destination.name
        ));
    }

    fn finish(&mut self) -> bool {
        self.encoder.end();
        self.hand_over(true);
        let Some(Writer { blocks, thread }) = self.writer.take() else {
            return self.failed.get().is_none();
        };
        drop(blocks);
        let joined = thread.join().is_ok();
        joined && self.failed.get().is_none() && self.encoder.left_out() == 0
    }
}

impl Destination {
    fn open(path: &Path) -> Result<Self> {
        let name = Untrusted::path(path).to_string();
        if path == Path::new("-") {
            return Self::stdout();
        }
        let failed = |e: io::Error| {
            Error::failed(format!(
                "{name} cannot be recorded into: {e}; choose another file with --record"
            ))
        };
        let mut options = OpenOptions::new();
        // For its owner alone: paths and names of functions are nobody else's business.
        options.write(true).mode(0o600);
        let (file, made) = match options.clone().create_new(true).open(path) {
            Ok(file) => (file, Some(path.to_owned())),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                // Also a link to nowhere is there already.
                (
                    options.create(true).truncate(false).open(path).map_err(failed)?,
                    None,
                )
            }
            Err(e) => return Err(failed(e)),
        };
        let regular = file.metadata().map_err(failed)?.is_file();
        if regular && let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::failed(format!(
                "another capture records into {name}; choose another file with --record"
            )));
        }
        Ok(Self {
            file,
            name,
            regular,
            made,
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
            file: File::from(file),
            name: "on stdout".to_owned(),
            regular: false,
            made: None,
        })
    }

    /// Empties the file, and starts the thread that fills it.
    fn begin(&mut self, failed: Arc<OnceLock<String>>) -> io::Result<Writer> {
        self.made = None;
        if self.regular {
            self.file.set_len(0)?;
        }
        let mut file = self.file.try_clone()?;
        let (regular, name) = (self.regular, self.name.clone());
        let (blocks, waiting) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                if let Err(e) = write(&mut file, &waiting, regular) {
                    let _ = failed.set(format!(
                        "the recording {name} has ended, and the capture goes on: {e}"
                    ));
                }
            })?;
        Ok(Writer { blocks, thread })
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // Nobody asked for an empty file, and nothing can be done about a failure.
            let _ = fs::remove_file(path);
        }
    }
}

fn write(file: &mut File, blocks: &Receiver<Vec<u8>>, regular: bool) -> io::Result<()> {
    file.write_all(&block::head())?;
    for raw in blocks {
        file.write_all(&block::seal(&raw))?;
    }
    if regular { file.sync_data() } else { Ok(()) }
}
