//! Probes that are perf events, one for each instruction (perf_event_open(2), the PMU `uprobe`): for kernels without
//! uprobe_multi, and for programs that are executed by a thread other than the first of its process.
//!
//! aya could open them, too, but a SIGKILL in the middle would then leave breakpoints behind: see [`shielded`].

use std::{
    ffi::{CString, c_long, c_ulong},
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{PERF_FLAG_FD_CLOEXEC, perf_event_attr};

use super::{raw, shielded};

/// The file with the event type of uprobes.
const TYPE: &str = "/sys/bus/event_source/devices/uprobe/type";
/// `PERF_EVENT_IOC_ENABLE` and `PERF_EVENT_IOC_SET_BPF` (include/uapi/linux/perf_event.h), the same on x86_64 and arm64.
const ENABLE: c_ulong = 0x2400;
const SET_BPF: c_ulong = 0x4004_2408;

/// A loaded program to be attached to perf events. Several threads may use it.
pub struct Program {
    program: OwnedFd,
    event_type: u32,
}

/// A live probe. Dropping it removes the probe, even if this process is killed meanwhile.
pub struct Probe(Option<OwnedFd>);

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            shielded::close(fd);
        }
    }
}

impl Program {
    /// Wraps a program that is already loaded.
    ///
    /// # Errors
    /// The kernel has no such events, or no descriptor is left.
    pub fn new(program: BorrowedFd<'_>) -> io::Result<Self> {
        let event_type = fs::read_to_string(TYPE)
            .and_then(|text| text.trim().parse().map_err(io::Error::other))
            .map_err(|e| io::Error::new(e.kind(), format!("{TYPE}: {e}")))?;
        Ok(Self {
            program: program.try_clone_to_owned()?,
            event_type,
        })
    }

    /// Attaches to the instruction at `offset` of the file at `path`, in the process of task `pid`, or for `None` in every
    /// process that maps the file. The program can read the `cookie`, if there is one (Linux 5.15).
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn attach(
        &self,
        path: &Path,
        offset: u64,
        pid: Option<u32>,
        cookie: Option<u64>,
    ) -> io::Result<Probe> {
        let event = self.open(path, offset, pid)?;
        match cookie {
            Some(cookie) => {
                // The link holds the event from here on: its own descriptor is not needed any more.
                let link = raw::link_event(self.program.as_fd(), event.fd()?, cookie)?;
                let probe = Probe(Some(link));
                event.release();
                Ok(probe)
            }
            None => {
                event.control(SET_BPF, c_long::from(self.program.as_raw_fd()))?;
                event.control(ENABLE, 0)?;
                Ok(event)
            }
        }
    }

    fn open(&self, path: &Path, offset: u64, pid: Option<u32>) -> io::Result<Probe> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: perf_event_attr is plain data; all zero is a valid value.
        let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
        attr.size = size_of::<perf_event_attr>() as u32;
        attr.type_ = self.event_type;
        attr.__bindgen_anon_3.config1 = path.as_ptr() as u64;
        attr.__bindgen_anon_4.config2 = offset;
        // One task on all CPUs, or all tasks: the kernel then requires a CPU, but hits on others reach the program, too.
        let (pid, cpu) = match pid {
            Some(pid) => (c_long::from(pid), -1),
            None => (-1, 0),
        };
        const NO_GROUP: c_long = -1;
        let arguments = [
            &raw const attr as c_long,
            pid,
            cpu,
            NO_GROUP,
            c_long::from(PERF_FLAG_FD_CLOEXEC),
        ];
        // SAFETY: `attr` and the path that it points to live until after the call.
        let fd = unsafe { shielded::syscall(libc::SYS_perf_event_open, arguments) }?;
        // SAFETY: the kernel has just given this descriptor to us.
        Ok(Probe(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })))
    }
}

impl Probe {
    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        let fd = self.0.as_ref().map(OwnedFd::as_fd);
        fd.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    fn control(&self, request: c_ulong, argument: c_long) -> io::Result<()> {
        // SAFETY: both requests take a number.
        match unsafe { libc::ioctl(self.fd()?.as_raw_fd(), request, argument) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Closes a descriptor that is not the last one of its probe, which is quick.
    fn release(mut self) {
        drop(self.0.take());
    }
}
