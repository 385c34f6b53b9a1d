//! On which CPUs a process runs, and how it competes for them.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The niceness of what is measured and of gmpscope: other load of the machine has a twelfth of their weight, so that it
/// is hardly a cause of what they wait for.
pub const FOREMOST: i32 = -11;

/// The CPUs that a process may use, of those that we may use ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpus {
    /// All of them.
    Any,
    /// The first one.
    First,
    /// The last one.
    Last,
}

impl Cpus {
    /// The one CPU, where it is one.
    ///
    /// # Errors
    /// We have fewer than two CPUs.
    pub fn single(self) -> Result<Option<usize>> {
        let allowed = allowed()?;
        ensure!(
            allowed.len() >= 2,
            "two CPUs are needed, of which one is for gmpscope; these can be used: {allowed:?}"
        );
        Ok(match self {
            Self::Any => None,
            Self::First => allowed.first().copied(),
            Self::Last => allowed.last().copied(),
        })
    }
}

/// The numbers of the CPUs that we may use, ascending.
fn allowed() -> Result<Vec<usize>> {
    let mut set = empty();
    // SAFETY: the set is valid for as many bytes as are named.
    let failed = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    checked(failed).context("reading which CPUs we may use")?;
    let is_allowed = |cpu: &usize| {
        // SAFETY: the number is that of a bit of the set.
        unsafe { libc::CPU_ISSET(*cpu, &set) }
    };
    let bits = 8 * size_of::<libc::cpu_set_t>();
    Ok((0..bits).filter(is_allowed).collect())
}

fn empty() -> libc::cpu_set_t {
    // SAFETY: it is an array of integers, which may be zero.
    unsafe { zeroed() }
}

/// Gives this thread, and the processes that it starts from now on, the niceness [`FOREMOST`].
///
/// # Errors
/// We are not root.
pub fn become_foremost() -> Result<()> {
    set_niceness(FOREMOST).context("setting our niceness: run the tests as root")
}

fn set_niceness(niceness: i32) -> io::Result<()> {
    // SAFETY: numbers only; 0 is the calling thread.
    checked(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) })
}

/// How a process is placed when it is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placement {
    /// The CPU that it runs on.
    pub cpu: Option<usize>,
    /// Whether it has the policy SCHED_BATCH.
    pub batch: bool,
    /// Its niceness, if it is not ours.
    pub niceness: Option<i32>,
    /// Whether it is killed when the thread that starts it ends.
    pub ends_with_us: bool,
}

impl Placement {
    /// Makes `command` start so.
    pub fn apply(self, command: &mut Command) {
        // SAFETY: the closure makes system calls only, on memory of its own.
        unsafe { command.pre_exec(move || self.place()) };
    }

    fn place(&self) -> io::Result<()> {
        if self.ends_with_us {
            // SAFETY: numbers only.
            checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        }
        if let Some(cpu) = self.cpu {
            let mut set = empty();
            // SAFETY: CPU_SET checks that the number is within the set, which is valid for as many bytes as are named.
            checked(unsafe {
                libc::CPU_SET(cpu, &mut set);
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
            })?;
        }
        if self.batch {
            // SAFETY: it is a struct of integers, which may be zero; this policy has no priority but 0.
            checked(unsafe {
                let priority: libc::sched_param = zeroed();
                libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority)
            })?;
        }
        self.niceness.map_or(Ok(()), set_niceness)
    }
}

fn checked(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
