//! Other captures of the same target: they are possible, but each must say that its figures contain the cost of the
//! others.
//!
//! A capture listens on an abstract Unix socket whose name says which process it traces and which process traces; the
//! kernel removes the socket however the capture ends, and lists all names in /proc/net/unix. A later capture connects
//! to the earlier ones, so that they know of it even if it ends before they read the list.
//!
//! Anybody on the host may bind such a name or connect to it, so neither a name nor a message is trusted: the kernel
//! says who is at the other end (`SO_PEERCRED`), and only a process that could trace counts. The work of one update is
//! bounded however many names there are, and nothing here blocks. Captures in another network namespace are not seen.

mod credentials;

use std::{
    collections::BTreeSet,
    fmt,
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
        connect, listen, recv, send, socket_with,
    },
    process::{Pid, test_kill_process},
};

use self::credentials::Credentials;

/// Names that the captures of one target by one process may have. More than one in case somebody else has bound ours.
const NAMES: u8 = 8;
/// Most connections that wait for our next update. The kernel refuses others.
const BACKLOG: i32 = 64;
/// Most connections that one update accepts.
const MOST_ACCEPTED: usize = 256;
/// Most connections without a message that are kept until the next update.
const MOST_SILENT: usize = 16;
/// Most names that one update connects to.
const MOST_CONNECTED: usize = 64;
/// Most names that are remembered as somebody else's.
const MOST_REFUSED: usize = 4096;
/// Most other captures that are counted.
const MOST_SEEN: usize = 256;
/// Most bytes of /proc/net/unix that one update reads: some 80 000 sockets.
const MOST_LISTED: u64 = 8 << 20;

const SOCKET: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// One capture of the target: the process that makes it, numbered as in our PID namespace, and which of its captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Capture {
    pid: u32,
    nth: u8,
}

impl Capture {
    /// Parses `PID/N` as [`fmt::Display`] writes it; no other spelling, so that one capture has one name.
    fn parse(text: &str) -> Option<Self> {
        let (pid, nth) = text.split_once('/')?;
        let capture = Self {
            pid: pid.parse().ok()?,
            nth: nth.parse().ok().filter(|nth| *nth <= NAMES)?,
        };
        (capture.to_string() == text).then_some(capture)
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pid, self.nth)
    }
}

/// The socket of our own capture, and the other captures that we have seen.
#[derive(Debug)]
pub struct Presence {
    prefix: String,
    own: Capture,
    /// `None` if all our names are taken: then others learn of us only when we connect to them.
    listener: Option<OwnedFd>,
    seen: BTreeSet<Capture>,
    /// Names that are listed, but bound by a process that could not trace.
    refused: BTreeSet<Capture>,
    /// Connections of processes that could trace, whose message has not come yet.
    silent: Vec<(OwnedFd, Credentials)>,
}

impl Presence {
    /// Announces a capture of process `pid`, which was started at `start_time` (as in /proc/PID/stat). A failure is not
    /// a reason not to trace, so it is only logged.
    pub fn announce(pid: u32, start_time: u64) -> Self {
        Self::announce_as(format!("gmpscope/{pid}/{start_time}/"))
    }

    fn announce_as(prefix: String) -> Self {
        let pid = std::process::id();
        let bound = (0..NAMES).find_map(|nth| {
            let own = Capture { pid, nth };
            listening(&format!("{prefix}{own}"))
                .inspect_err(|e| log::debug!("the socket {prefix}{own} for other captures: {e}"))
                .ok()
                .map(|listener| (own, listener))
        });
        if bound.is_none() {
            log::info!("captures of the same process that begin later may not learn of this one");
        }
        let (own, listener) = match bound {
            Some((own, listener)) => (own, Some(listener)),
            None => (Capture { pid, nth: NAMES }, None),
        };
        let mut presence = Self {
            prefix,
            own,
            listener,
            seen: BTreeSet::new(),
            refused: BTreeSet::new(),
            silent: Vec::new(),
        };
        presence.update();
        presence
    }

    /// Returns how many other captures of the same process there have been since this one began.
    pub fn others(&mut self) -> u64 {
        self.update();
        self.seen.len() as u64
    }

    /// Adds the captures that have connected to us and those that are listed.
    fn update(&mut self) {
        for (connection, peer) in std::mem::take(&mut self.silent) {
            self.receive(connection, peer);
        }
        self.accept();
        self.connect();
    }

    fn accept(&mut self) {
        for _ in 0..MOST_ACCEPTED {
            let accepted = match &self.listener {
                Some(listener) => accept_with(listener, SOCKET),
                None => return,
            };
            match accepted {
                Ok(connection) => match Credentials::of_peer(&connection) {
                    Ok(peer) if peer.could_trace() => self.receive(connection, peer),
                    _ => {}
                },
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    /// Receives the message of a process that has connected and could trace.
    fn receive(&mut self, connection: OwnedFd, peer: Credentials) {
        let mut buffer = [0; 32];
        match recv(&connection, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((_, length)) => {
                let text = buffer.get(..length).and_then(|text| str::from_utf8(text).ok());
                if let Some(capture) = text.and_then(Capture::parse).filter(|it| it.pid == peer.pid) {
                    self.add(capture);
                }
            }
            Err(Errno::AGAIN) if self.silent.len() < MOST_SILENT => self.silent.push((connection, peer)),
            Err(_) => {}
        }
    }

    /// Connects to those that are listed and not known yet.
    fn connect(&mut self) {
        let Ok(listed) = listed(&self.prefix) else {
            return;
        };
        self.refused.retain(|capture| listed.contains(capture));
        let unknown: Vec<Capture> = listed
            .into_iter()
            .filter(|it| *it != self.own && !self.seen.contains(it) && !self.refused.contains(it))
            .filter(|it| is_alive(it.pid))
            .take(MOST_CONNECTED)
            .collect();
        for capture in unknown {
            match self.is_real(capture) {
                Ok(true) => self.add(capture),
                // Its backlog is full: the next update tries again.
                Err(Errno::AGAIN) => {}
                Ok(false) | Err(_) if self.refused.len() < MOST_REFUSED => {
                    self.refused.insert(capture);
                }
                Ok(false) | Err(_) => {}
            }
        }
    }

    /// Whether the process that a name states is the one that listens, and could trace. If so, it is sent our own name.
    fn is_real(&self, capture: Capture) -> Result<bool, Errno> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SOCKET, None)?;
        let name = format!("{}{capture}", self.prefix);
        connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        let peer = Credentials::of_peer(&socket)?;
        if peer.pid != capture.pid || !peer.could_trace() {
            return Ok(false);
        }
        // It may have ended meanwhile.
        let _ = send(
            &socket,
            self.own.to_string().as_bytes(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        );
        Ok(true)
    }

    fn add(&mut self, capture: Capture) {
        if capture != self.own && self.seen.len() < MOST_SEEN {
            self.seen.insert(capture);
        }
    }
}

fn listening(name: &str) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SOCKET, None)?;
    bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Reads the captures whose names begin with `prefix`, whoever has bound them.
fn listed(prefix: &str) -> io::Result<BTreeSet<Capture>> {
    let mut text = Vec::new();
    File::open("/proc/net/unix")?
        .take(MOST_LISTED)
        .read_to_end(&mut text)?;
    Ok(captures_in(&text, prefix))
}

/// Parses /proc/net/unix. Names may hold any bytes, so each line is read by itself. The kernel prints the leading zero
/// byte of an abstract name as `@`.
fn captures_in(listed: &[u8], prefix: &str) -> BTreeSet<Capture> {
    listed
        .split(|byte| *byte == b'\n')
        .filter_map(|line| str::from_utf8(line).ok())
        .filter_map(|line| line.rsplit_once('@')?.1.strip_prefix(prefix))
        .filter_map(Capture::parse)
        .collect()
}

/// Whether there is such a process, even if /proc hides it.
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Announces a capture, under a name that real ones do not have.
    fn presence(target: &str) -> Presence {
        Presence::announce_as(format!("gmpscope-test/{}/{target}/", std::process::id()))
    }

    fn call(presence: &Presence, message: &[u8]) -> OwnedFd {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SOCKET, None).unwrap();
        let name = format!("{}{}", presence.prefix, presence.own);
        connect(
            &socket,
            &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap(),
        )
        .unwrap();
        if !message.is_empty() {
            send(&socket, message, SendFlags::NOSIGNAL).unwrap();
        }
        socket
    }

    #[test]
    fn captures_of_one_process_know_of_each_other() {
        let mut first = presence("one");
        assert_eq!(first.others(), 0);
        let mut second = presence("one");
        assert_eq!((first.others(), second.others()), (1, 1));
        assert_eq!((first.others(), second.others()), (1, 1), "each is counted once");
        assert_eq!(presence("another").others(), 0, "another process");
        assert_eq!(presence("one").others(), 2, "the younger sees both");
        assert_eq!((first.others(), second.others()), (2, 2), "and both see it");
    }

    #[test]
    fn one_that_came_and_went_is_remembered() {
        let mut first = presence("gone");
        // The two get the same name one after the other, and count as one without an update in between.
        drop(presence("gone"));
        assert_eq!(first.others(), 1);
        assert_eq!(
            presence("gone").others(),
            1,
            "the second is gone, the first is there"
        );
    }

    #[test]
    fn a_name_that_another_process_is_to_have_counts_for_nothing() {
        let mut first = presence("named");
        let parent = std::os::unix::process::parent_id();
        let forged = listening(&format!("{}{parent}/0", first.prefix)).unwrap();
        assert_eq!(first.others(), 0, "its parent has not bound it, but this process");
        let refused = Capture { pid: parent, nth: 0 };
        assert!(first.refused.contains(&refused));
        drop(forged);
        assert_eq!(first.others(), 0);
        assert!(
            first.refused.is_empty(),
            "the parent itself may come with that name"
        );
    }

    #[test]
    fn messages_are_not_trusted() {
        let mut first = presence("messages");
        let own = std::process::id();
        let messages = [
            String::new(),
            "1/0".into(),
            format!("{own}/0x1"),
            format!("{own}/{}", NAMES + 1),
            format!("0{own}/1"),
            "\u{0}".repeat(100),
        ];
        let kept: Vec<OwnedFd> = messages
            .iter()
            .map(|message| call(&first, message.as_bytes()))
            .collect();
        assert_eq!(first.others(), 0);
        assert_eq!(first.silent.len(), 1, "the one that has said nothing");
        drop(kept);
        let silent = call(&first, b"");
        assert_eq!(first.others(), 0);
        send(&silent, format!("{own}/7").as_bytes(), SendFlags::NOSIGNAL).unwrap();
        assert_eq!(first.others(), 1, "it is heard at the next update");
    }

    #[test]
    fn a_flood_of_calls_is_neither_waited_for_nor_kept() {
        let mut first = presence("flooded");
        let mut calls = Vec::new();
        let name = format!("{}{}", first.prefix, first.own);
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        loop {
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SOCKET, None).unwrap();
            match connect(&socket, &address) {
                Ok(()) => calls.push(socket),
                Err(e) => break assert_eq!(e, Errno::AGAIN),
            }
            assert!(calls.len() < 1_000);
        }
        let mut second = presence("flooded");
        assert_eq!(second.seen.len(), 0, "the first has no room for it");
        assert_eq!(first.others(), 1, "but finds it by its name");
        assert!(first.silent.len() <= MOST_SILENT);
        assert_eq!(second.others(), 1);
    }

    #[test]
    fn names_are_read_one_by_one_whatever_is_among_them() {
        let listed = b"0000: 00000002 00000000 00010000 0005 01 1 @gmpscope/7/8/9/0\n\
            0000: 00000002 00000000 00010000 0005 01 2 @\xff\xfe\n\
            0000: 00000002 00000000 00010000 0005 01 3 @gmpscope/7/8/10/1\n\
            0000: 00000002 00000000 00010000 0005 01 4 @gmpscope/7/8/10/99\n\
            0000: 00000002 00000000 00010000 0005 01 5 @gmpscope/7/8/+11/0\n\
            0000: 00000002 00000000 00010000 0005 01 6 @gmpscope/7/8/12\n\
            0000: 00000002 00000000 00010000 0005 01 7 /run/gmpscope/7/8/13/0\n\
            0000: 00000002 00000000 00010000 0005 01 8 @gmpscope/7/88/14/0\n";
        let found = captures_in(listed, "gmpscope/7/8/");
        let expected = [Capture { pid: 9, nth: 0 }, Capture { pid: 10, nth: 1 }];
        assert_eq!(found, BTreeSet::from(expected));
    }
}
