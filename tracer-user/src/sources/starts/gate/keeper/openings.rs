//! Decides about each opening, which is a program that a process is about to execute, and releases it.

use std::{
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use tracer_ebpf::start::binary;

use super::{
    Keeper, PATIENCE,
    state::{Closed, State},
};
use crate::{
    clock::now_ns,
    process::file::FileId,
    sources::starts::gate::{
        caller::ExecCaller,
        counts::Hold,
        descriptors,
        group::{Opening, Version},
        known::Decision,
        questions::SentQuestion,
    },
};

/// Why a start is missed that has its probes.
const NOT_FOLLOWED: &str = "too many processes were on their way to main.main at once";

/// Most events that are read before messages and deadlines are served.
const AT_ONCE: usize = 64;

impl Keeper {
    /// Reads events and handles them.
    pub(super) fn take_events(&mut self) {
        for _ in 0..AT_ONCE {
            let State::Closed(Closed { watchdog, group }) = &self.state else {
                return;
            };
            if let Err(e) = self.reserve.fill() {
                return self.run_short(&format!("no file can be opened: {e}"));
            }
            watchdog.beat();
            watchdog.owe(true);
            self.reserve.spend();
            match group.next() {
                Ok(Some(opening)) => self.handle(opening),
                Ok(None) => return,
                Err(e) => return self.handle_refused(e),
            }
        }
    }

    /// Handles a program that the kernel has refused to execute, since it could not open it for us.
    fn handle_refused(&mut self, errno: Errno) {
        self.counts.refused += 1;
        let why =
            format!("the kernel could not open a program for gmpscope, and refused to execute it: {errno}");
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => self.run_short(&why),
            _ => self.give_up(format!("programs are held no longer: {why}")),
        }
    }

    /// Decides what happens to an opening. Dropping it would release the process.
    fn handle(&mut self, opening: Opening) {
        let caller = ExecCaller::of(opening.tid());
        let all = self.asker.watches_all();
        let followed = !all || self.held.get(&caller.pid, 0).is_ok();
        match followed {
            true => self.counts.followed += 1,
            false => self.counts.others += 1,
        }
        let Some((file, version)) = opening.file() else {
            return self.release(opening, caller, binary::UNREADY, followed);
        };
        if !all {
            return self.handle_watched(opening, caller, file, version);
        }
        match self.known.decide(file, version, followed, Instant::now()) {
            Decision::Allow(binary) => self.proceed(opening, caller, binary, followed),
            Decision::Wait(id) if self.has_room() => {
                self.waiting
                    .entry(id)
                    .or_default()
                    .push((opening, caller, followed));
            }
            Decision::Wait(_) => self.release(opening, caller, binary::UNREADY, followed),
            Decision::Ask(id) => {
                // The file stays open until there is an answer, even if the process no longer waits for it.
                let kept = opening.duplicate().filter(|_| self.has_room());
                let asked = kept.as_ref().map(|kept| SentQuestion {
                    id,
                    id_of_file: file,
                    number: kept.as_raw_fd(),
                    followed,
                });
                let is_asked = asked.is_some_and(|asked| self.questions.send(asked).is_ok());
                // Fails only where the eventfd is readable already.
                let _ = rustix::io::write(&self.arrivals, &1u64.to_ne_bytes());
                if !is_asked {
                    self.known.withdraw(id);
                    return self.release(opening, caller, binary::UNREADY, followed);
                }
                self.asked.extend(kept.map(|kept| (id, kept)));
                match self.known.is_late(id) {
                    true => self.release(opening, caller, binary::UNREADY, followed),
                    false => self
                        .waiting
                        .entry(id)
                        .or_default()
                        .push((opening, caller, followed)),
                }
            }
        }
    }

    /// Like [`Self::handle`], where single files are watched.
    fn handle_watched(&mut self, opening: Opening, caller: ExecCaller, file: FileId, version: Version) {
        let slot = match self.files.get(&file) {
            Some(watched) if Version::of(&watched.state) == version => watched.slot,
            Some(_) => {
                return self.release_missed(opening, caller, "the file was changed since it was looked at");
            }
            // It was unwatched while the event was on its way.
            None => return,
        };
        self.proceed(opening, caller, slot, true);
    }

    fn has_room(&self) -> bool {
        let held = self.waiting.values().map(Vec::len).sum::<usize>() + self.pending_links.len();
        held + self.asked.len() < descriptors::most_held()
    }

    /// Releases the openings that wait for the answer to question `id`.
    pub(super) fn release_waiting(&mut self, id: u64, binary: u32) {
        for (opening, caller, followed) in self.waiting.remove(&id).unwrap_or_default() {
            self.proceed(opening, caller, binary, followed);
        }
    }

    /// Releases a process whose program is known: at once, or if it is followed, when it has its probes.
    fn proceed(&mut self, opening: Opening, caller: ExecCaller, binary: u32, followed: bool) {
        if !followed || !binary::is_traced(binary) {
            return self.release(opening, caller, binary, followed);
        }
        if !self.has_room() {
            return self.release_missed(opening, caller, "too many starts wait at once");
        }
        let waited = Duration::from_nanos(now_ns().saturating_sub(opening.came_ns()));
        let until = Instant::now() + PATIENCE.saturating_sub(waited);
        if let Some(opening) = self.pending_links.begin(opening, caller, binary, until) {
            self.release_missed(opening, caller, "its process has no id where gmpscope runs");
        }
    }

    /// Releases the process of a job, whose probes are there, or will not be.
    pub(super) fn job_done(&mut self, id: u64, result: std::result::Result<(), String>) {
        match (self.pending_links.take(id), result) {
            (Some(waiting), Ok(())) => self.release(waiting.opening, waiting.caller, waiting.slot, true),
            (Some(waiting), Err(why)) => self.release_missed(waiting.opening, waiting.caller, &why),
            // The process continued without probes.
            (None, Ok(())) => {
                let _ = self.late.send(id);
            }
            (None, Err(_)) => {}
        }
    }

    /// Releases a process without its probes, and counts the start as missed.
    pub(super) fn release_missed(&mut self, opening: Opening, caller: ExecCaller, why: &str) {
        self.count_missed(&opening, why);
        self.release(opening, caller, binary::UNREADY, true);
    }

    fn count_missed(&self, opening: &Opening, why: &str) {
        let watched = opening.file().and_then(|(file, _)| self.files.get(&file));
        watched.map_or(&self.missed, |watched| &watched.missed).add(why);
    }

    /// Records for the kernel side what the process is about to run, and releases it.
    fn release(&mut self, opening: Opening, caller: ExecCaller, binary: u32, followed: bool) {
        if !followed {
            opening.allow();
            return;
        }
        // One execve opens several files: a script before its interpreter, a program before its loader.
        let pid = caller.pid;
        let before = self.held.get(&pid, 0).unwrap_or(binary::UNKNOWN);
        let is_news = match binary {
            binary::NOT_TRACED => before == binary::UNKNOWN,
            binary::UNREADY => !binary::is_traced(before),
            _ => true,
        };
        const ANY: u64 = 0; // BPF_ANY
        const THERE: u64 = 2; // BPF_EXIST: the process may have been killed meanwhile.
        let (is_news, flags) = match self.asker.watches_all() {
            true => (is_news, THERE),
            // The process is followed from here on.
            false => (binary::is_traced(binary), ANY),
        };
        if is_news && self.held.insert(pid, binary, flags).is_err() && flags == ANY {
            self.count_missed(&opening, NOT_FOLLOWED);
        }
        let (came_ns, until_ns) = (opening.came_ns(), now_ns());
        let waited = opening.allow();
        self.counts.unready += u64::from(binary == binary::UNREADY || !waited);
        if waited {
            // Fails at the end, when it is not received any more.
            let _ = self.holds.send(Hold {
                pid,
                until_ns,
                held_ns: until_ns.saturating_sub(came_ns),
            });
        }
    }
}
