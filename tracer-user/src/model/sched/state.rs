//! The states that the model knows, and which changes of status each version of Go makes.

use crate::stream::transition::status;

/// What a goroutine does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Not known.
    #[default]
    Unknown = 0,
    /// Could run, and does not.
    Runnable = 1,
    /// Runs.
    Running = 2,
    /// Is in a system call.
    Syscall = 3,
    /// Waits for something.
    Waiting = 4,
    /// Does not exist yet, or has ended.
    Dead = 5,
}

impl State {
    /// The number of states.
    pub const COUNT: usize = 6;
    /// Every state, in the order of its number.
    pub const ALL: [State; Self::COUNT] = [
        State::Unknown,
        State::Runnable,
        State::Running,
        State::Syscall,
        State::Waiting,
        State::Dead,
    ];

    /// The name that JSON and text use: the runtime's own where it has one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Syscall => "syscall",
            Self::Waiting => "waiting",
            Self::Dead => "dead",
        }
    }

    /// Whether a goroutine in this state has a thread.
    pub const fn has_thread(self) -> bool {
        matches!(self, Self::Running | Self::Syscall)
    }

    /// The state that a status of the runtime means; `None` for one that no version has.
    pub const fn of_status(number: u8) -> Option<Self> {
        Some(match number {
            status::RUNNABLE => Self::Runnable,
            // Copystack: its stack is moved while it runs.
            status::RUNNING | status::COPYSTACK => Self::Running,
            status::SYSCALL => Self::Syscall,
            status::WAITING | status::PREEMPTED | status::LEAKED => Self::Waiting,
            status::IDLE | status::DEAD | status::DEADEXTRA => Self::Dead,
            _ => return None,
        })
    }
}

/// Whether Go 1.`minor` makes this change of a goroutine's status. Source: the calls of casgstatus and the
/// compare-and-swaps of `atomicstatus` in package runtime of each version.
pub fn is_legal(minor: u32, old: u8, new: u8) -> bool {
    use status::{COPYSTACK, DEAD, DEADEXTRA, IDLE, LEAKED, PREEMPTED, RUNNABLE, RUNNING, SYSCALL, WAITING};
    match (old, new) {
        (IDLE | DEAD, RUNNABLE)
        | (RUNNABLE, RUNNING)
        | (RUNNING, RUNNABLE | WAITING | SYSCALL | DEAD | PREEMPTED)
        | (SYSCALL, RUNNING)
        | (WAITING, RUNNABLE)
        | (DEAD, SYSCALL) => true,
        // Its status may be set back before it is woken, or not.
        (PREEMPTED, RUNNABLE | WAITING) | (COPYSTACK, RUNNING) | (RUNNING, COPYSTACK) | (IDLE, DEAD) => true,
        // exitsyscall0, which exitsyscallNoP took the place of.
        (SYSCALL, RUNNABLE) => minor <= 25,
        // newcoro: made Runnable first in 1.22, Waiting at once from 1.23 on.
        (RUNNABLE, WAITING) => minor == 22,
        (IDLE | DEAD, WAITING) => minor >= 23,
        // A coroutine continues.
        (WAITING, RUNNING) => true,
        // needm and dropm, of a thread of C.
        (DEADEXTRA, SYSCALL) | (SYSCALL, DEADEXTRA) => minor >= 26,
        (SYSCALL, DEAD) => minor <= 25,
        (WAITING, LEAKED) | (LEAKED, WAITING) => minor >= 26,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_differ_where_the_runtime_does() {
        assert!(is_legal(25, status::SYSCALL, status::RUNNABLE));
        assert!(!is_legal(26, status::SYSCALL, status::RUNNABLE));
        assert!(is_legal(26, status::DEADEXTRA, status::SYSCALL));
        assert!(!is_legal(25, status::DEADEXTRA, status::SYSCALL));
        assert!(!is_legal(27, status::RUNNABLE, status::WAITING));
        assert!(is_legal(22, status::RUNNABLE, status::WAITING));
        assert!(!is_legal(27, status::WAITING, status::SYSCALL));
    }

    #[test]
    fn every_status_has_a_state_and_no_other_number_has() {
        let known: Vec<u8> = (0..=u8::MAX).filter(|n| State::of_status(*n).is_some()).collect();
        assert_eq!(known, [0, 1, 2, 3, 4, 6, 8, 9, 10, 11]);
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
        }
    }
}
