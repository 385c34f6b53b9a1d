//! `--interval`: one object for each stretch of time, of what was seen in it.

mod latencies;
mod starts;

pub use latencies::Interval;
pub use starts::StartsInterval;
