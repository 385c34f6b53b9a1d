//! Begins and ends to hold programs, checks the watchdog, and changes what is watched.

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use tracer_ebpf::start::binary;

use super::{
    Keeper, Woken,
    state::{Closed, State},
};
use crate::{
    error::{Error, Result},
    process::file::FileId,
    sources::starts::gate::{
        group::{Group, WatchedMounts},
        message::Watch,
        watchdog::Watchdog,
    },
};

/// How long nothing is held after descriptors or memory ran short.
const SHORT: Duration = Duration::from_secs(1);
/// How often in a row a watchdog that was killed is replaced.
const MOST_REPLACED: u32 = 3;
/// A watchdog that was killed after this time starts a new row.
const LIVED: Duration = Duration::from_secs(60);

impl Keeper {
    /// Begins to hold programs.
    pub(super) fn hold(&mut self) -> Result<WatchedMounts> {
        let group = Group::new(self.asker)?;
        // First: nothing may be held without one.
        let watchdog = Watchdog::start(group.as_fd(), self.wake.as_fd()).map_err(|e| {
            Error::failed(format!(
                "{}: no process could be made that lets programs go if gmpscope is stopped, and without it they \
                 would wait for ever: {e}",
                self.asker
            ))
        })?;
        let watched = match self.asker.watches_all() {
            true => group.watch_mounted()?,
            false => WatchedMounts::default(),
        };
        for file in self.files.values() {
            group.watch_file(&file.path)?;
        }
        self.watchdog_since = Instant::now();
        self.state = State::Closed(Closed { watchdog, group });
        Ok(watched)
    }

    /// Releases everything, and holds nothing from here on. `why` is recorded for the files that miss starts meanwhile.
    pub(super) fn open(&mut self, state: State, why: &str) {
        let before = std::mem::replace(&mut self.state, state);
        if matches!(before, State::Closed(_)) {
            self.files.values().for_each(|file| file.missed.gap(why));
        }
        let ids: Vec<u64> = self.waiting.keys().copied().collect();
        ids.into_iter()
            .for_each(|id| self.release_waiting(id, binary::UNREADY));
        for waiting in self.pending_links.take_all() {
            self.release_missed(
                waiting.opening,
                waiting.caller,
                "programs were not held for a while",
            );
        }
        // So that no program waits while the watchdog ends, which may take a moment.
        if let State::Closed(Closed { group, .. }) = &before {
            group.watch_nothing();
        }
        // Events that were not read are allowed by the kernel when the group is closed.
        drop(before);
    }

    /// Holds programs again.
    pub(super) fn hold_again(&mut self) {
        if let Err(e) = self.hold() {
            self.run_short(&e.message);
        }
    }

    /// Holds nothing for a while.
    pub(super) fn run_short(&mut self, why: &str) {
        self.counts.shortages += 1;
        if self.counts.why_short.as_deref() != Some(why) {
            self.complain(format!("programs are not held for the time being: {why}"));
            self.counts.why_short = Some(why.to_owned());
        }
        let until = Instant::now() + SHORT;
        self.open(State::Short { until }, why);
    }

    /// Holds nothing any more, because of a failure.
    pub(super) fn give_up(&mut self, why: String) {
        self.complain(why.clone());
        self.open(State::Open, &why);
        self.counts.over = Some(why);
    }

    /// Starts over with a new group and watchdog if the watchdog has released everything because we did not move, or is
    /// gone itself: which events of the old group are answered is not known any more.
    pub(super) fn check_watchdog(&mut self, woken: &Woken) {
        let State::Closed(Closed { watchdog, .. }) = &self.state else {
            return;
        };
        let why = if watchdog.has_opened() {
            self.counts.standstills += 1;
            self.counts.released_by_watchdog += watchdog.released().max(1);
            let why = "gmpscope was stopped, or got no CPU: programs were not held meanwhile";
            self.complain(why.to_owned());
            why
        } else if woken.watchdog_ended {
            if self.watchdog_since.elapsed() > LIVED {
                self.replaced = 0;
            }
            self.replaced += 1;
            if self.replaced > MOST_REPLACED {
                return self.give_up(
                    "programs are held no longer: the watchdog is killed again and again".to_owned(),
                );
            }
            "the watchdog was killed: programs were not held until there was another"
        } else {
            return;
        };
        self.open(State::Paused, why);
        self.hold_again();
    }

    /// Watches newly mounted file systems.
    pub(super) fn watch_mounts(&self) {
        if let State::Closed(Closed { group, .. }) = &self.state
            && let Err(e) = group.watch_mounted()
        {
            self.complain(e.message);
        }
    }

    /// Holds each `execve` of a file from here on.
    pub(super) fn watch_file(&mut self, file: Watch) -> Result<()> {
        match &self.state {
            State::Closed(Closed { group, .. }) => group.watch_file(&file.path)?,
            // The file is watched when programs are held again.
            State::Paused | State::Short { .. } => {}
            State::Open => {
                return Err(Error::failed(format!(
                    "{}: {}",
                    self.asker,
                    self.counts
                        .over
                        .as_deref()
                        .unwrap_or("programs are held no longer")
                )));
            }
        }
        self.files.insert(file.state.id, file);
        Ok(())
    }

    pub(super) fn unwatch_file(&mut self, file: FileId) {
        if let Some(watched) = self.files.remove(&file)
            && let State::Closed(Closed { group, .. }) = &self.state
            && let Err(e) = group.unwatch_file(&watched.path)
        {
            self.complain(format!("a file is still watched: {e}"));
        }
    }
}
