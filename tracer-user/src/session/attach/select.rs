//! Which process the user means.

use crate::{
    error::{Error, Result},
    escape::Untrusted,
    process,
    session::options::TargetSelector,
};

/// The process that was selected, and when it was started, if it was searched for.
pub(super) struct Selected {
    pub(super) pid: i32,
    start_time: Option<u64>,
}

impl Selected {
    /// Checks that a process that was searched for still has the property by which it was found.
    ///
    /// # Errors
    /// It has ended or executed another program.
    pub(super) fn check_unchanged(&self, selector: &TargetSelector) -> Result<()> {
        let found = match selector {
            TargetSelector::Pid(_) => return Ok(()),
            TargetSelector::Exe(path) => process::by_exe(path),
            TargetSelector::Comm(name) => process::by_comm(name),
        };
        let is_it =
            |found: &process::Found| found.pid == self.pid && Some(found.start_time) == self.start_time;
        if found.is_ok_and(|found| found.iter().any(is_it)) {
            return Ok(());
        }
        Err(Error::not_traceable(format!(
            "process {} was found, but ended or executed another program before it could be looked at: try again",
            self.pid
        )))
    }
}

/// Finds the one process that a selector names.
///
/// # Errors
/// No process matches, or more than one does.
pub(super) fn select(selector: &TargetSelector) -> Result<Selected> {
    let (found, what) = match selector {
        TargetSelector::Pid(pid) => {
            let start_time = None;
            return i32::try_from(*pid)
                .map(|pid| Selected { pid, start_time })
                .map_err(|_| Error::usage(format!("{pid} is not the id of a process")));
        }
        TargetSelector::Exe(path) => (process::by_exe(path)?, format!("runs {}", Untrusted::path(path))),
        TargetSelector::Comm(name) => (
            process::by_comm(name)?,
            format!("is named {}", Untrusted::from(name.as_str())),
        ),
    };
    match found.as_slice() {
        [] => Err(Error::not_traceable(format!(
            "no process {what}: `ps -eo pid,comm,args` lists those that there are, and -p PID takes one of them"
        ))),
        [one] => Ok(Selected {
            pid: one.pid,
            start_time: Some(one.start_time),
        }),
        several => {
            let list: String = several
                .iter()
                .map(|found| format!("\n  {:>7}  {}", found.pid, found.comm))
                .collect();
            Err(Error::usage(format!(
                "{} processes {what}; choose one with -p PID:{list}",
                several.len()
            )))
        }
    }
}
