//! How many targets, goroutines, sites and records the maps of the kernel side have room for.

use tracer_ebpf::{DEFAULT_STAMPS, Histogram, MAX_CREATION_SITES, MAX_TARGETS, Origin, start::MAX_STARTS};

/// Sizes of the kernel side's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Targets at once: probed processes, and binaries whose starts are probed.
    pub targets: u32,
    /// How many of them can be traced with `exact` at once: each takes 30 kB for each CPU.
    pub exact: u32,
    /// Stamps of goroutines of all targets (`exact`); see [`Self::kept_stamps`].
    pub stamps: u32,
    /// Processes whose `execve` is to be followed at once.
    pub processes: u32,
    /// Creation sites of all targets together that have a histogram of their own, 5 kB each.
    pub creation_sites: u32,
    /// Whether processes that start and exit are reported.
    pub reports_processes: bool,
    /// Bytes of the rings of transitions (`full`), of all together: a power of two, or 0 for none.
    pub ring_bytes: u32,
    /// Different stacks that can be kept (`full --stacks`), 0.3 kB each.
    pub stacks: u32,
}

/// Most memory that the histograms of `exact` take on a host, in bytes.
const MOST_FOR_EXACT: usize = 16 << 20;
/// Most targets that are traced with `exact` at once on a host.
const MOST_EXACT: usize = 8;
/// Creation sites of a target on a host.
pub const CREATION_SITES_ON_HOST: u32 = 64;

impl Capacity {
    /// For one target, without stamps of goroutines.
    pub const ONE: Self = Self {
        targets: 1,
        exact: 1,
        stamps: 1,
        creation_sites: MAX_CREATION_SITES,
        reports_processes: false,
        ring_bytes: 0,
        stacks: 1,
        processes: MAX_STARTS,
    };

    /// Has room for the sites of this many plugins, too: those of each take the entries of one more target.
    #[must_use]
    pub fn with_plugins(self, plugins: u32) -> Self {
        let targets = self.targets.saturating_add(plugins).min(MAX_TARGETS - 1);
        Self { targets, ..self }
    }

    /// For one target whose `allgs` has `goroutines` entries now, with room for as many more.
    pub fn for_one(goroutines: u64) -> Self {
        let wanted = u32::try_from(goroutines.saturating_mul(2)).unwrap_or(u32::MAX);
        Self {
            stamps: wanted.clamp(DEFAULT_STAMPS, 1 << 22),
            ..Self::ONE
        }
    }

    /// How many goroutines of a target keep their stamp between their waits, which costs less than a new one for each
    /// wait. The other half of the table is for those that have none, while they are runnable.
    pub const fn kept_stamps(&self) -> u32 {
        match self.exact {
            0 => 0,
            targets => self.stamps / 2 / targets,
        }
    }

    /// For `targets` processes and binaries of a host; `exact` says whether any of them may be traced so. The maps grow
    /// with the number of CPUs, and take less than some 50 MB of the kernel's memory on any machine.
    pub fn for_host(targets: u32, exact: bool) -> Self {
        let cpus = aya::util::nr_cpus().unwrap_or(1).max(1);
        let each = cpus * size_of::<Histogram>() * Origin::COUNT as usize;
        let fit = (MOST_FOR_EXACT / each).clamp(1, MOST_EXACT) as u32;
        let targets = targets.clamp(1, MAX_TARGETS - 1);
        Self {
            targets,
            exact: if exact { fit.min(targets) } else { 0 },
            stamps: if exact { 2 * DEFAULT_STAMPS } else { 1 },
            creation_sites: (targets * CREATION_SITES_ON_HOST / 2)
                .clamp(CREATION_SITES_ON_HOST, 2 * MAX_CREATION_SITES),
            reports_processes: true,
            ring_bytes: 0,
            stacks: 1,
            processes: MAX_STARTS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goroutines_keep_no_more_than_half_of_the_stamps() {
        let idle = Capacity::for_one(12);
        assert_eq!(
            (idle.stamps, idle.kept_stamps()),
            (DEFAULT_STAMPS, DEFAULT_STAMPS / 2)
        );
        // Each goroutine that is there when the capture begins keeps its own.
        let crowd = Capacity::for_one(300_000);
        assert_eq!((crowd.stamps, crowd.kept_stamps()), (600_000, 300_000));
        assert!(Capacity::for_one(u64::MAX).stamps <= 1 << 22);
        let host = Capacity::for_host(64, true);
        assert!(host.kept_stamps() > 0 && host.kept_stamps() * host.exact <= host.stamps / 2);
        assert_eq!(Capacity::for_host(64, false).kept_stamps(), 0);
    }
}
