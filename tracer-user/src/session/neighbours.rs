//! Other captures of the same target: they work, but each must say that its figures contain the other's
//! cost.
//!
//! A capture holds an abstract Unix socket whose name says whom it traces; the kernel lets go of it however
//! the capture ends, and lists all names in /proc/net/unix. Captures in another network namespace are not
//! seen.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// Our own entry in the list.
#[derive(Debug)]
pub struct Presence {
    prefix: String,
    own: Option<(UnixDatagram, String)>,
}

impl Presence {
    /// Announces a capture of process `pid` that started at `start_time` (as /proc/PID/stat counts).
    /// Failing to is no reason not to trace.
    pub fn announce(pid: u32, start_time: u64) -> Self {
        let prefix = format!("gmpscope/{pid}/{start_time}/");
        let name = format!("{prefix}{}", std::process::id());
        let own = SocketAddr::from_abstract_name(&name)
            .and_then(|address| UnixDatagram::bind_addr(&address))
            .inspect_err(|e| log::info!("cannot tell other captures of process {pid} about this one: {e}"))
            .ok()
            .map(|socket| (socket, name));
        Self { prefix, own }
    }

    /// How many other captures of the same process run now.
    pub fn others(&self) -> u64 {
        let Ok(listed) = fs::read_to_string("/proc/net/unix") else {
            return 0;
        };
        let is_other = |name: &str| {
            name.starts_with(&self.prefix) && self.own.as_ref().is_none_or(|(_, own)| own != name)
        };
        // The kernel prints an abstract name's leading zero byte as `@`.
        let names = listed
            .lines()
            .filter_map(|line| line.rsplit_once('@'))
            .map(|(_, name)| name);
        names.filter(|name| is_other(name)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_of_one_process_see_each_other_while_they_last() {
        let first = Presence::announce(u32::MAX, 7);
        assert_eq!(first.others(), 0);
        // Another process would have its own name; this one stands for it.
        let name = format!("{}other", first.prefix);
        let other = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        assert_eq!(first.others(), 1);
        assert_eq!(
            Presence::announce(u32::MAX, 8).others(),
            0,
            "another incarnation of the same PID"
        );
        drop(other);
        assert_eq!(first.others(), 0);
    }
}
