//! Reloads the configuration while the daemon runs: all of it is put in force, or nothing.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    Config, Layers, Loaded, Mistake,
    health::Health,
    layers::Texts,
    load::join,
    reload::{Reload, Trigger},
    table::{self, TakesEffect},
    watch::Watch,
};
use crate::output::{json, notice};

/// Files are read when they have not changed for this time: several are often written together.
const QUIET: Duration = Duration::from_millis(200);

/// Files are read no later than this after the first change.
const LATEST: Duration = Duration::from_secs(1);

/// Keeps the configuration in force, and replaces it by the next one without mistakes.
///
/// ```text
/// loop {
///     let trigger = reloader.due().await;      // in a `select!`
///     let reload = reloader.reload(trigger);   // writes its line
///     if !reload.changed.is_empty() { apply(reloader.loaded()) }
/// }
/// ```
#[derive(Debug)]
pub struct Reloader {
    layers: Layers,
    loaded: Arc<Loaded>,
    /// What was in force when the daemon started.
    started: Arc<Config>,
    /// [`Texts::fingerprint`] of what was read last, with mistakes or without.
    fingerprint: [u8; 32],
    hangup: Signal,
    /// `None` if the files cannot be watched; then only SIGHUP reloads them.
    watch: Option<Watch>,
    /// The first and the last change since the files were last read.
    pending: Option<(Instant, Instant)>,
    last: Option<Reload>,
    counts: BTreeMap<&'static str, u64>,
}

impl Reloader {
    /// Loads the configuration, and watches its files: no change after this is missed.
    ///
    /// # Errors
    /// The configuration has mistakes, or SIGHUP cannot be received.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub fn start(layers: Layers) -> Result<Self, StartError> {
        let hangup = signal(SignalKind::hangup()).map_err(StartError::Signal)?;
        let watch = watch(&layers);
        let texts = layers.files.read();
        let fingerprint = texts.fingerprint();
        let loaded = join(&layers, texts).map_err(StartError::Mistakes)?;
        Ok(Self {
            layers,
            started: Arc::clone(&loaded.config),
            loaded: Arc::new(loaded),
            fingerprint,
            hangup,
            watch,
            pending: None,
            last: None,
            counts: BTreeMap::from([("ok", 0), ("error", 0)]),
        })
    }

    /// The configuration in force.
    pub fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded)
    }

    /// How many reloads there were, by result: `ok`, `error`.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The content of `/health/config`.
    pub fn health(&self) -> Health {
        Health::of(&self.loaded, self.last.as_ref(), self.watch.is_some())
    }

    /// Waits until the configuration is to be reloaded. The future may be dropped at any time.
    pub async fn due(&mut self) -> Trigger {
        loop {
            let deadline = self
                .pending
                .map(|(first, last)| (last + QUIET).min(first + LATEST));
            tokio::select! {
                biased;
                hangup = self.hangup.recv() => {
                    // `None` would mean that no more signals come, which does not happen in tokio.
                    if hangup.is_some() {
                        self.pending = None;
                        return Trigger::Sighup;
                    }
                    std::future::pending::<()>().await;
                }
                () = until(deadline) => {
                    self.pending = None;
                    // Links may lead elsewhere now. The files are watched before they are read, so that no change is
                    // missed.
                    self.watch = watch(&self.layers);
                    if self.layers.files.read().fingerprint() != self.fingerprint {
                        return Trigger::File;
                    }
                }
                changed = changed(self.watch.as_ref()) => {
                    let now = Instant::now();
                    let first = self.pending.map_or(now, |(first, _)| first);
                    self.pending = Some((first, now));
                    if let Err(error) = changed {
                        unwatched(&error);
                        self.watch = None;
                    }
                }
            }
        }
    }

    /// Reads all layers again, puts them in force if they have no mistake, and writes one line of JSON to stderr.
    pub fn reload(&mut self, trigger: Trigger) -> Reload {
        self.watch = watch(&self.layers);
        let texts: Texts = self.layers.files.read();
        self.fingerprint = texts.fingerprint();
        let (result, changed, mistakes) = match join(&self.layers, texts) {
            Ok(loaded) => {
                let changed = table::differing(&self.loaded.config, &loaded.config);
                self.loaded = Arc::new(loaded);
                ("ok", changed, Vec::new())
            }
            Err(mistakes) => ("error", Vec::new(), mistakes),
        };
        let mut needs_restart = table::differing(&self.started, &self.loaded.config);
        needs_restart
            .retain(|name| table::find(name).is_some_and(|setting| setting.effect == TakesEffect::Restart));
        let reload = Reload {
            time: Timestamp::now(),
            event: "config_reload",
            origin: trigger,
            result,
            sha256: self.loaded.sha256.clone(),
            changed,
            needs_restart,
            mistakes,
        };
        let count = self.counts.entry(result).or_default();
        *count = count.saturating_add(1);
        log(&reload);
        self.last = Some(reload.clone());
        reload
    }
}

/// Why the daemon has no configuration to start with.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has mistakes.
    Mistakes(Vec<Mistake>),
    /// SIGHUP cannot be received.
    Signal(io::Error),
}

impl From<StartError> for crate::error::Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Mistakes(mistakes) => Self::usage(super::describe(&mistakes)),
            StartError::Signal(error) => Self::failed(format!("SIGHUP cannot be received: {error}")),
        }
    }
}

/// Sleeps until the deadline; for ever if there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits for a change; for ever if nothing is watched.
async fn changed(watch: Option<&Watch>) -> io::Result<()> {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

fn watch(layers: &Layers) -> Option<Watch> {
    Watch::new(&layers.files).map_err(|error| unwatched(&error)).ok()
}

fn unwatched(error: &io::Error) {
    log::warn!("changes of the configuration are not seen by themselves: {error}; send SIGHUP to reload it");
}

/// Writes the line of a reload to stderr, at once, so that no other line comes between. A full log must not stop the
/// daemon.
fn log(reload: &Reload) {
    if let Ok(line) = json::line(reload) {
        notice::line(line.trim_end());
    }
}
