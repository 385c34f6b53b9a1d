//! Counts of what the gate has held and released, and for how long it held a process.

/// Counts of the gate, since it was closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateCounts {
    /// Openings by processes of the tree.
    pub followed: u64,
    /// Of them, those that were released before their program was known.
    pub unready: u64,
    /// Openings by other processes.
    pub others: u64,
    /// How often gmpscope did not move, so that the watchdog opened the gate.
    pub standstills: u64,
    /// Openings, by any process, that the watchdog released.
    pub released_by_watchdog: u64,
    /// How often there was no room for another open file.
    pub shortages: u64,
    /// Why there was no room the last time.
    pub why_short: Option<String>,
    /// Programs that the kernel has refused to execute, since it could not open them for us.
    pub refused: u64,
    /// Why the gate has opened for good, if it has.
    pub over: Option<String>,
}

impl GateCounts {
    /// Notes for the reader of the capture.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let times = |n: u64| match n {
            1 => "once".to_owned(),
            n => format!("{n} times"),
        };
        if self.standstills > 0 {
            notes.push(format!(
                "gmpscope was stopped or got no CPU {}: {} that waited for it went on unasked, and later ones did not \
                 wait: starts may be missing",
                times(self.standstills),
                match self.released_by_watchdog {
                    1 => "1 program".to_owned(),
                    n => format!("{n} programs"),
                }
            ));
        }
        if self.shortages > 0 {
            let why = self.why_short.as_deref().unwrap_or("no room");
            notes.push(format!(
                "programs were not held for a while, {}: {why}",
                times(self.shortages)
            ));
        }
        if self.refused > 0 {
            notes.push(format!(
                "the kernel refused to execute {} of whichever process, which it could not open for gmpscope",
                match self.refused {
                    1 => "1 program".to_owned(),
                    n => format!("{n} programs"),
                }
            ));
        }
        notes.extend(self.over.clone());
        notes
    }
}

/// The time for which a followed process was held.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// The process, in our PID namespace.
    pub pid: u32,
    /// When it was released, CLOCK_MONOTONIC.
    pub until_ns: u64,
    /// For how long it was held.
    pub held_ns: u64,
}
