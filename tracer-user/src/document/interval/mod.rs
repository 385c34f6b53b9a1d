//! `--interval`: one object for each period of time, with what was seen in it.

mod latencies;
mod starts;

pub use latencies::Interval;
pub use starts::StartsInterval;
