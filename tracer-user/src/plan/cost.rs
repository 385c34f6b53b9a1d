//! Expected costs of a mode for the target.

use super::{Emulation, Mode, Site};

/// Nanoseconds that a hit of an emulated instruction costs its thread: in a tight loop, and in a busy server.
/// Measured on a virtual machine (x86_64, Linux 6.18); a capture measures its own machine.
pub const HIT_NS: [u64; 2] = [700, 1_300];
/// How many times as much a single-stepped instruction costs, on the same machine.
pub const SINGLE_STEPPED: [u64; 2] = [10, 14];
/// The runtime tracks nominally one in so many transitions of a goroutine (`gTrackingPeriod`, runtime2.go).
pub const TRACKING_PERIOD: f64 = 8.0;
/// Cycles per tracked wait, as measured: the choice is not uniform, and programs that start many goroutines
/// have more of their waits tracked.
pub const CYCLES_PER_TRACKED_WAIT: [f64; 2] = [4.0, 8.0];

/// Probe hits of `full` per scheduling cycle: runnable, running, waiting. Changes of Ps and Ms come on top.
pub const HITS_PER_FULL_CYCLE: f64 = 3.0;

/// Probe hits per scheduling cycle of a goroutine (runnable, running, off).
pub fn hits_per_cycle(mode: Mode) -> f64 {
    match mode {
        Mode::Passive => 0.0,
        Mode::Sampled => 1.0 / TRACKING_PERIOD,
        Mode::Exact => 2.0,
        Mode::Full => HITS_PER_FULL_CYCLE,
    }
}

/// Nanoseconds that one hit of these sites costs, [low, high], based on what was `measured` on this machine, if
/// anything was. With `--force` some sites may be single-stepped; since it is not known which are hot, the most
/// expensive counts.
pub fn hit_ns(sites: &[Site], measured: Option<[u64; 2]>) -> [u64; 2] {
    let [low, high] = measured.unwrap_or(HIT_NS);
    if sites.iter().any(|site| site.emulation != Emulation::Emulated) {
        [
            low.saturating_mul(SINGLE_STEPPED[0]),
            high.saturating_mul(SINGLE_STEPPED[1]),
        ]
    } else {
        [low, high]
    }
}

/// Hits per second that a mode would have in a process whose runtime tracks so many waits per second:
/// [low, high].
pub fn hits_per_second(mode: Mode, tracked_waits_per_second: f64) -> [f64; 2] {
    match mode {
        Mode::Passive => [0.0, 0.0],
        Mode::Sampled => [tracked_waits_per_second; 2],
        Mode::Exact | Mode::Full => {
            CYCLES_PER_TRACKED_WAIT.map(|cycles| hits_per_cycle(mode) * cycles * tracked_waits_per_second)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_expensive_mode_is_forecast_to_be_so() {
        assert_eq!(hits_per_second(Mode::Passive, 1e6), [0.0, 0.0]);
        assert_eq!(hits_per_second(Mode::Sampled, 1000.0), [1000.0, 1000.0]);
        assert_eq!(hits_per_second(Mode::Exact, 1000.0), [8_000.0, 16_000.0]);
        assert!(hits_per_cycle(Mode::Sampled) < hits_per_cycle(Mode::Exact));
        assert_eq!(hit_ns(&[], None), HIT_NS);
        assert_eq!(hit_ns(&[], Some([1, 2])), [1, 2]);
    }
}
