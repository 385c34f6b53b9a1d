//! Waits for the exits of many processes: all their pidfds behind one descriptor.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::{Timespec, epoll};

/// How many exits one call returns at most; the next call returns the rest.
const AT_ONCE: usize = 64;

/// The pidfds that are waited for. Closing one removes it.
#[derive(Debug)]
pub struct Exits(OwnedFd);

impl Exits {
    /// Waits for no process yet.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Waits for one more process.
    ///
    /// # Errors
    /// The kernel has no room for it (fs.epoll.max_user_watches).
    pub fn add(&self, pid: u32, pidfd: BorrowedFd<'_>) -> io::Result<()> {
        let data = epoll::EventData::new_u64(u64::from(pid));
        Ok(epoll::add(&self.0, pidfd, data, epoll::EventFlags::IN)?)
    }

    /// Readable when a process has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The processes that have ended and whose pidfds are still open.
    ///
    /// # Errors
    /// The kernel refuses the wait, which is not expected.
    pub fn ended(&self) -> io::Result<Vec<u32>> {
        let mut events = [const { MaybeUninit::uninit() }; AT_ONCE];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let (ended, _) = epoll::wait(&self.0, &mut events, Some(&at_once))?;
        let pids = ended
            .iter()
            .filter_map(|event| u32::try_from(event.data.u64()).ok());
        Ok(pids.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;
    use std::process::Command;

    #[test]
    fn who_has_ended_is_named() {
        let exits = Exits::new().unwrap();
        let mut children: Vec<_> = (0..3)
            .map(|_| Command::new("sleep").arg("60").spawn().unwrap())
            .collect();
        let lives: Vec<_> = children
            .iter()
            .map(|child| Process::open(child.id().cast_signed()).unwrap().into_life())
            .collect();
        for life in &lives {
            exits.add(life.pid().unsigned_abs(), life.pidfd()).unwrap();
        }
        assert_eq!(exits.ended().unwrap(), [] as [u32; 0]);
        children[1].kill().unwrap();
        children[1].wait().unwrap();
        assert_eq!(exits.ended().unwrap(), [children[1].id()]);
        assert_eq!(exits.ended().unwrap(), [children[1].id()], "until it is closed");
        drop(lives);
        assert_eq!(exits.ended().unwrap(), [] as [u32; 0]);
        for mut child in children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
