//! Reading the configuration again while the daemon runs: all of it, or nothing.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    Config, Layers, Loaded, Mistake,
    health::Health,
    layers::Texts,
    load::join,
    table::{self, Effect},
    watch::Watch,
};
use crate::{output::json, writing::stderr};

/// Files are read when nothing has happened to them for so long: who writes one often writes several.
const QUIET: Duration = Duration::from_millis(200);

/// But not later than this after the first happening.
const LATEST: Duration = Duration::from_secs(1);

/// Why the configuration is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// SIGHUP.
    Sighup,
    /// A file has changed.
    File,
}

/// One reload: what its line in the log says.
#[derive(Clone, Debug, Serialize)]
pub struct Reload {
    /// When.
    pub time: Timestamp,
    /// `config_reload`
    pub event: &'static str,
    /// Why.
    pub origin: Trigger,
    /// `ok` or `error`
    pub result: &'static str,
    /// Of the configuration that is in force now: [`Loaded::sha256`].
    pub sha256: String,
    /// Names of the settings that changed, `target` for rules.
    pub changed: Vec<&'static str>,
    /// Settings that have another value than when the daemon started, and take effect only when it is started again.
    pub needs_restart: Vec<&'static str>,
    /// What is wrong, where the result is `error`: the configuration from before stays in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
}

/// Holds the configuration in force, and replaces it by the next that has no mistake.
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
    /// What was in force at the start.
    started: Arc<Config>,
    /// Of what was read last, good or bad.
    fingerprint: [u8; 32],
    hangup: Signal,
    /// None where the kernel gives no inotify: SIGHUP remains.
    watch: Option<Watch>,
    /// The first and the last happening that no reading has followed.
    pending: Option<(Instant, Instant)>,
    last: Option<Reload>,
    counts: BTreeMap<&'static str, u64>,
}

impl Reloader {
    /// Loads the configuration, and watches from now on: nothing that changes after this is missed.
    ///
    /// # Errors
    /// All mistakes of the configuration; or SIGHUP cannot be received.
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

    /// Reloads until now, by result: `ok`, `error`.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// What `/health/config` says.
    pub fn health(&self) -> Health {
        Health::of(&self.loaded, self.last.as_ref(), self.watch.is_some())
    }

    /// Resolves when there is something to reload. May be dropped and called again at any time.
    pub async fn due(&mut self) -> Trigger {
        loop {
            let deadline = self
                .pending
                .map(|(first, last)| (last + QUIET).min(first + LATEST));
            tokio::select! {
                biased;
                hangup = self.hangup.recv() => {
                    // None would mean that no signal comes any more, which tokio does not do.
                    if hangup.is_some() {
                        self.pending = None;
                        return Trigger::Sighup;
                    }
                    std::future::pending::<()>().await;
                }
                () = until(deadline) => {
                    self.pending = None;
                    // Links may lead elsewhere now. Watching comes before reading, so that nothing falls between.
                    self.watch = watch(&self.layers);
                    if self.layers.files.read().fingerprint() != self.fingerprint {
                        return Trigger::File;
                    }
                }
                happened = happened(self.watch.as_ref()) => {
                    let now = Instant::now();
                    let first = self.pending.map_or(now, |(first, _)| first);
                    self.pending = Some((first, now));
                    if let Err(error) = happened {
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
            .retain(|name| table::find(name).is_some_and(|setting| setting.effect == Effect::Restart));
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

/// Why there is no configuration to begin with.
#[derive(Debug)]
pub enum StartError {
    /// It has mistakes.
    Mistakes(Vec<Mistake>),
    /// SIGHUP cannot be received.
    Signal(io::Error),
}

impl From<StartError> for crate::error::Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Mistakes(mistakes) => Self::usage(super::told(&mistakes)),
            StartError::Signal(error) => Self::failed(format!("SIGHUP cannot be received: {error}")),
        }
    }
}

/// Sleeps until then; without a time, for ever.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits for a happening; without a watch, for ever.
async fn happened(watch: Option<&Watch>) -> io::Result<()> {
    match watch {
        Some(watch) => watch.happened().await,
        None => std::future::pending().await,
    }
}

fn watch(layers: &Layers) -> Option<Watch> {
    Watch::new(&layers.files).map_err(|error| unwatched(&error)).ok()
}

fn unwatched(error: &io::Error) {
    log::warn!("changes of the configuration are not seen by themselves: {error}; send SIGHUP to reload it");
}

/// One write, so that lines of others do not come between. A log that is full must not stop the daemon.
fn log(reload: &Reload) {
    if let Ok(line) = json::line(reload) {
        stderr::write(line.as_bytes());
    }
}
