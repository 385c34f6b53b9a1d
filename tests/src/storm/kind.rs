//! The kinds of rounds, and the ways in which they end.

use std::path::PathBuf;

use super::random::Random;

/// What gmpscope does in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `attach --mode passive`.
    Passive,
    /// `attach --mode sampled`.
    Sampled,
    /// `attach --mode exact`.
    Exact,
    /// `attach --mode full`.
    Full,
    /// `attach --mode full --stacks`.
    Stacks,
    /// `sampled` with perf events, which the kernel removes one after the other.
    SampledPerf,
    /// `exact` with perf events.
    ExactPerf,
    /// `full` with perf events.
    FullPerf,
    /// `run`.
    Run,
    /// `run --repeat`.
    Repeat,
    /// `attach --exe --next`.
    Next,
    /// `attach` beside a gdb that attaches too.
    Gdb,
    /// `attach` beside an strace that attaches too.
    Strace,
}

impl Kind {
    /// All kinds, in the order of the table.
    pub const ALL: [Self; 13] = [
        Self::Passive,
        Self::Sampled,
        Self::Exact,
        Self::Full,
        Self::Stacks,
        Self::SampledPerf,
        Self::ExactPerf,
        Self::FullPerf,
        Self::Run,
        Self::Repeat,
        Self::Next,
        Self::Gdb,
        Self::Strace,
    ];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passive => "passive",
            Self::Sampled => "sampled",
            Self::Exact => "exact",
            Self::Full => "full",
            Self::Stacks => "full --stacks",
            Self::SampledPerf => "sampled, perf events",
            Self::ExactPerf => "exact, perf events",
            Self::FullPerf => "full, perf events",
            Self::Run => "run",
            Self::Repeat => "run --repeat",
            Self::Next => "attach --next",
            Self::Gdb => "exact beside gdb",
            Self::Strace => "exact beside strace",
        }
    }

    /// Finds the kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its weight in percent. Kinds that take the kernel long are rare.
    fn weight(self) -> u64 {
        match self {
            Self::Sampled | Self::Exact => 16,
            Self::Full => 14,
            Self::Stacks | Self::Run | Self::Next => 9,
            Self::Passive => 8,
            Self::Repeat => 6,
            Self::SampledPerf | Self::ExactPerf => 3,
            Self::FullPerf => 2,
            Self::Gdb => 2,
            Self::Strace => 3,
        }
    }

    /// The program that it needs besides gmpscope.
    pub fn tool(self) -> Option<&'static str> {
        match self {
            Self::Gdb => Some("gdb"),
            Self::Strace => Some("strace"),
            _ => None,
        }
    }
}

/// The kinds that this machine can run, and those for which it lacks a program.
pub fn possible() -> (Vec<Kind>, Vec<Kind>) {
    Kind::ALL
        .into_iter()
        .partition(|kind| kind.tool().is_none_or(|tool| on_path(tool).is_some()))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Draws one of these kinds, by weight.
pub fn drawn(kinds: &[Kind], random: &mut Random) -> Kind {
    let all: u64 = kinds.iter().map(|kind| kind.weight()).sum();
    let mut left = random.below(all.max(1));
    for kind in kinds {
        match left.checked_sub(kind.weight()) {
            Some(less) => left = less,
            None => return *kind,
        }
    }
    Kind::Passive
}

/// How the capture of a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGKILL, at any moment after its start.
    Kill,
    /// SIGKILL, while another capture of the same target is running.
    KillBesideAnother,
    /// SIGINT, at any moment.
    Interrupt,
    /// SIGTERM, at any moment.
    Terminate,
    /// It ends by itself.
    ByItself,
}

impl Ending {
    /// Draws one: about every second round is killed.
    pub fn drawn(random: &mut Random) -> Self {
        match random.below(20) {
            0..8 => Self::Kill,
            8..11 => Self::KillBesideAnother,
            11..14 => Self::Interrupt,
            14..17 => Self::Terminate,
            _ => Self::ByItself,
        }
    }

    /// The name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::KillBesideAnother => "killed beside another capture",
            Self::Interrupt => "ended by SIGINT",
            Self::Terminate => "ended by SIGTERM",
            Self::ByItself => "ended by itself",
        }
    }

    /// Whether a gmpscope is killed.
    pub fn kills(self) -> bool {
        matches!(self, Self::Kill | Self::KillBesideAnother)
    }

    /// The signal to send.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Kill | Self::KillBesideAnother => Some(libc::SIGKILL),
            Self::Interrupt => Some(libc::SIGINT),
            Self::Terminate => Some(libc::SIGTERM),
            Self::ByItself => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_every_end_is_drawn() {
        assert_eq!(Kind::ALL.iter().map(|kind| kind.weight()).sum::<u64>(), 100);
        let mut random = Random::new(1);
        let drawn: std::collections::BTreeSet<Kind> =
            (0..2_000).map(|_| drawn(&Kind::ALL, &mut random)).collect();
        assert_eq!(drawn.len(), Kind::ALL.len());
        let endings: Vec<Ending> = (0..2_000).map(|_| Ending::drawn(&mut random)).collect();
        let killed = endings.iter().filter(|ending| ending.kills()).count();
        assert!((900..1_300).contains(&killed), "{killed}");
        assert!(endings.contains(&Ending::Interrupt) && endings.contains(&Ending::ByItself));
    }
}
