//! Other captures of the same target: they work, but each must say that its figures contain the other's
//! cost.
//!
//! A capture holds an abstract Unix socket whose name says whom it traces; the kernel lets go of it however
//! the capture ends, and lists all names in /proc/net/unix. Who comes later finds the others there, and
//! sends each of them its own name, so that they know of it even if it is gone before they look. Captures in
//! another network namespace are not seen.

use std::{
    collections::BTreeSet,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// Longest name that is taken from another process.
const MAX_NAME: usize = 100;

/// Our own entry in the list, and whom we have met.
#[derive(Debug)]
pub struct Presence {
    prefix: String,
    own: Option<(UnixDatagram, String)>,
    met: BTreeSet<String>,
}

impl Presence {
    /// Announces a capture of process `pid` that started at `start_time` (as /proc/PID/stat counts).
    /// Failing to is no reason not to trace.
    pub fn announce(pid: u32, start_time: u64) -> Self {
        let prefix = format!("gmpscope/{pid}/{start_time}/");
        let name = format!("{prefix}{}", std::process::id());
        Self::announce_as(prefix, name)
    }

    fn announce_as(prefix: String, name: String) -> Self {
        let own = bind(&name)
            .inspect_err(|e| log::info!("other captures cannot be told about this one: {e}"))
            .ok()
            .map(|socket| (socket, name));
        let mut presence = Self {
            prefix,
            own,
            met: BTreeSet::new(),
        };
        presence.meet();
        if let Some((socket, name)) = &presence.own {
            for other in &presence.met {
                // One that has just ended need not know.
                let _ = SocketAddr::from_abstract_name(other)
                    .and_then(|address| socket.send_to_addr(name.as_bytes(), &address));
            }
        }
        presence
    }

    /// How many other captures of the same process have run since this one began.
    pub fn others(&mut self) -> u64 {
        self.meet();
        self.met.len() as u64
    }

    /// Looks who is there, and who has called.
    fn meet(&mut self) {
        let mut buffer = [0; MAX_NAME];
        while let Some((socket, _)) = &self.own
            && let Ok(length) = socket.recv(&mut buffer)
        {
            let name = buffer
                .get(..length)
                .and_then(|name| std::str::from_utf8(name).ok());
            self.met.extend(
                name.filter(|name| name.starts_with(&self.prefix))
                    .map(str::to_owned),
            );
        }
        let Ok(listed) = crate::target::process::text_of("/proc/net/unix") else {
            return;
        };
        // The kernel prints an abstract name's leading zero byte as `@`.
        let names = listed
            .lines()
            .filter_map(|line| line.rsplit_once('@'))
            .map(|(_, name)| name);
        let own = self.own.as_ref().map(|(_, name)| name.as_str());
        let others = names.filter(|name| name.starts_with(&self.prefix) && Some(*name) != own);
        self.met.extend(others.map(str::to_owned));
    }
}

fn bind(name: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(target: &str, name: &str) -> Presence {
        let prefix = format!("gmpscope-test/{}/{target}/", std::process::id());
        let name = format!("{prefix}{name}");
        Presence::announce_as(prefix, name)
    }

    #[test]
    fn captures_of_one_process_know_of_each_other() {
        let mut first = presence("one", "first");
        assert_eq!(first.others(), 0);
        let mut second = presence("one", "second");
        assert_eq!((first.others(), second.others()), (1, 1));
        assert_eq!(presence("another", "first").others(), 0, "another process");
    }

    #[test]
    fn one_that_came_and_went_is_remembered() {
        let mut first = presence("gone", "first");
        drop(presence("gone", "second"));
        assert_eq!(first.others(), 1);
        assert_eq!(
            presence("gone", "third").others(),
            1,
            "the second is gone, the first is there"
        );
    }
}
