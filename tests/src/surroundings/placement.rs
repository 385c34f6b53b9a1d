//! Where a process is started, and how it competes for CPUs.

use std::io::{self, Write as _};
use std::mem::zeroed;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result};

use super::group::Group;
use super::{checked, cpus};

/// The niceness of what is measured and of gmpscope: other load of the machine has a twelfth of their weight, so that it
/// is hardly a cause of what they wait for.
pub const FOREMOST: i32 = -11;

/// Gives this thread, and the processes that it starts from now on, the niceness [`FOREMOST`].
///
/// # Errors
/// We are not root.
pub fn become_foremost() -> Result<()> {
    set_niceness(FOREMOST).context("setting our niceness: run the tests as root")
}

/// How a process is placed when it is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placement<'a> {
    /// The control group that it is in.
    pub group: Option<&'a Group>,
    /// The CPU that it runs on.
    pub cpu: Option<usize>,
    /// Whether it has the policy SCHED_BATCH.
    pub batch: bool,
    /// Its niceness, if it is not ours.
    pub niceness: Option<i32>,
    /// Whether it is killed when the thread that starts it ends.
    pub ends_with_us: bool,
}

impl Placement<'_> {
    /// Makes `command` start so.
    ///
    /// # Errors
    /// The control group cannot be opened.
    pub fn apply(self, command: &mut Command) -> Result<()> {
        let door = self.group.map(Group::door).transpose()?;
        let Self {
            cpu,
            batch,
            niceness,
            ends_with_us,
            ..
        } = self;
        // SAFETY: the closure makes system calls only, on memory of its own.
        unsafe {
            command.pre_exec(move || {
                if ends_with_us {
                    end_with_parent()?;
                }
                if let Some(mut door) = door.as_ref() {
                    door.write_all(b"0")?;
                }
                // After the group, which may set the CPUs that are allowed.
                if let Some(cpu) = cpu {
                    cpus::confine(0, cpu)?;
                }
                if batch {
                    become_batch()?;
                }
                niceness.map_or(Ok(()), set_niceness)
            });
        }
        Ok(())
    }
}

fn end_with_parent() -> io::Result<()> {
    // SAFETY: numbers only.
    checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })
}

fn become_batch() -> io::Result<()> {
    // SAFETY: it is a struct of integers, which may be zero; this policy has no priority but 0.
    checked(unsafe {
        let priority: libc::sched_param = zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority)
    })
}

fn set_niceness(niceness: i32) -> io::Result<()> {
    // SAFETY: numbers only; 0 is the calling thread.
    checked(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::Quota;

    #[test]
    fn a_process_starts_in_the_group_and_the_group_is_removed() {
        let group = Group::new("cpu").unwrap();
        group.weigh(100).unwrap();
        group.limit_cpu(Quota::of_percent(50)).unwrap();
        let (cpu, _) = cpus::two().unwrap();
        let mut command = Command::new("cat");
        command.args(["/proc/self/cgroup", "/proc/self/status"]);
        let placement = Placement {
            group: Some(&group),
            cpu: Some(cpu),
            ends_with_us: true,
            ..Placement::default()
        };
        placement.apply(&mut command).unwrap();
        let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let folder = group.folder().to_owned();
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(printed.contains(&format!("/{name}\n")), "{printed}");
        assert!(
            printed.contains(&format!("Cpus_allowed_list:\t{cpu}\n")),
            "{printed}"
        );
        drop(group);
        assert!(!folder.exists());
    }
}
