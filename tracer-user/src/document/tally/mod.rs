//! What is kept while a capture runs, and the document that is made of it in the end. A tally knows no target and writes
//! nothing: all that it takes are steps and observations, which may as well come from a recording.

mod followed;
mod latencies;
mod starts;

pub use latencies::LatencyTally;
pub use starts::StartTally;
