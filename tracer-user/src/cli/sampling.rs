//! How often the scheduler's state is sampled.

use clap::Args;

/// Most samples a second: each takes some 20 microseconds of gmpscope's own time.
const MOST: i64 = 1_000;

/// Options of the samples from which `passive` and `sampled` estimate why goroutines wait.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct SamplingArgs {
    /// How many times a second to read the scheduler's state, for an estimate of
    /// why goroutines wait, fewer where that would cost more than 0.3 % of a
    /// core; 0: never [default: 100 in passive and sampled, else 0]
    #[arg(
        long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(0..=MOST),
        env = "GMPSCOPE_SAMPLE_RATE", hide_env_values = true
    )]
    pub(super) sample_rate: Option<u32>,
}
