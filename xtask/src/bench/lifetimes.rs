//! Exec and exit times of processes as the kernel reports them through its process event connector
//! (Documentation/driver-api/connector.rst, include/uapi/linux/cn_proc.h). The process itself is not involved.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send, socket_with,
};

/// `CN_IDX_PROC` and `CN_VAL_PROC`: the connector of process events and its multicast group.
const PROC: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// `PROC_EVENT_EXEC`.
const EXEC: u32 = 2;
/// `PROC_EVENT_EXIT`.
const EXIT: u32 = 0x8000_0000;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// Size of `nlmsghdr` and `cn_msg` in bytes.
const HEADERS: usize = 16 + 20;

/// A subscription to the process events of the host.
pub struct Lifetimes {
    socket: OwnedFd,
    executed: BTreeMap<u32, u64>,
}

impl Lifetimes {
    /// Subscribes to events from now on.
    pub fn listen() -> Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::CONNECTOR),
        )
        .context("the kernel has no process event connector (CONFIG_PROC_EVENTS)")?;
        bind(&socket, &netlink::SocketAddrNetlink::new(0, PROC)).context("listening to process events")?;
        let mut message = Vec::new();
        let length = u32::try_from(HEADERS + 4)?;
        message.extend(length.to_ne_bytes());
        message.extend(DONE.to_ne_bytes());
        message.extend([0; 10]);
        message.extend([PROC, PROC, 0, 0].iter().flat_map(|word| word.to_ne_bytes()));
        message.extend(4u16.to_ne_bytes());
        message.extend([0; 2]);
        message.extend(LISTEN.to_ne_bytes());
        send(&socket, &message, SendFlags::empty()).context("asking for process events")?;
        Ok(Self {
            socket,
            executed: BTreeMap::new(),
        })
    }

    /// Waits for the exit of a process and returns the time since its exec.
    pub fn wait_for_exit(&mut self, pid: u32) -> Result<Duration> {
        let mut buffer = [0u8; 4096];
        loop {
            let (_, length) =
                recv(&self.socket, &mut buffer, RecvFlags::empty()).context("reading process events")?;
            let Some(event) = buffer.get(HEADERS..length) else {
                continue;
            };
            let word = |at: usize| -> Option<u32> {
                Some(u32::from_ne_bytes(event.get(at..at + 4)?.try_into().ok()?))
            };
            // `proc_event`: what, cpu, timestamp_ns, then process_pid and process_tgid.
            let (Some(what), Some(thread), Some(process)) = (word(0), word(16), word(20)) else {
                continue;
            };
            let Some(at) = event
                .get(8..16)
                .and_then(|at| at.try_into().ok())
                .map(u64::from_ne_bytes)
            else {
                continue;
            };
            if thread != process {
                continue;
            }
            if what == EXEC {
                self.executed.insert(process, at);
            } else if what == EXIT && process == pid {
                let Some(began) = self.executed.remove(&pid) else {
                    bail!("process {pid} exited, but its exec was not seen");
                };
                return Ok(Duration::from_nanos(at.saturating_sub(began)));
            }
        }
    }
}
