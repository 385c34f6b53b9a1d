//! The programs that probes run.

/// What a probe's program does at a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgramKind {
    /// Measures each wait: two hits per scheduling cycle.
    Exact,
    /// Takes the waits that the runtime tracks: one hit for each.
    Sampled,
    /// Sends every transition.
    Full,
    /// As [`Self::Full`], with the stacks of goroutines that block.
    Stacks,
    /// Sends moments of a process's start. Without cookies its sites are known by their binary and link-time
    /// addresses, whatever the process: they are attached before it has any.
    Mark,
    /// Does nothing: what is left is the cost of the trap.
    Empty,
}

impl ProgramKind {
    const ALL: [Self; 6] = [
        Self::Exact,
        Self::Sampled,
        Self::Full,
        Self::Stacks,
        Self::Mark,
        Self::Empty,
    ];

    /// Name of the program that finds its site by the attach cookie.
    pub(super) fn with_cookies(self) -> &'static str {
        match self {
            Self::Exact => "exact_cookie",
            Self::Sampled => "sampled_cookie",
            Self::Full => "full_cookie",
            Self::Stacks => "stacks_cookie",
            Self::Mark => "mark_cookie",
            Self::Empty => "empty",
        }
    }

    /// Name of the program that finds its site by the probed address.
    pub(super) fn with_addresses(self) -> &'static str {
        match self {
            Self::Exact => "exact_ip",
            Self::Sampled => "sampled_ip",
            Self::Full => "full_ip",
            Self::Stacks => "stacks_ip",
            Self::Mark => "mark_ip",
            Self::Empty => "empty",
        }
    }
}

/// Names of the programs that a kernel may be given, each once. Those that ask for the cookie load only where the
/// kernel has cookies; those that go by address load everywhere.
pub fn programs(cookies: bool) -> impl Iterator<Item = &'static str> {
    let with_cookies = ProgramKind::ALL.into_iter().filter(move |_| cookies);
    let mut names: Vec<_> = with_cookies
        .map(ProgramKind::with_cookies)
        .chain(ProgramKind::ALL.map(ProgramKind::with_addresses))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter()
}
