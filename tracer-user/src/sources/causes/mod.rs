//! Why goroutines wait to run, without a probe: samples of the scheduler's state and of what the kernel counts for the
//! threads, many times a second. It costs the target nothing but the cache lines that are read.
//!
//! ```text
//! memory of the runtime ──▶ reader ──▶ state ──▶ shares ──▶ batch ──▶ Observation
//! schedstat and stat    ──▶ threads ─────────────▶ ┘          ▲
//! CPU clock, cpu.stat   ──▶ stall ────────────────────────────┘
//! ```
//!
//! A sample reads no more than its answer depends on: one call where no goroutine waits, or a P is idle; only where all Ps
//! are taken what a few of these do, and only of those that run something what the kernel says of their threads.
//!
//! A sample counts with the number of goroutines that wait at its moment and with the time since the one before, so that
//! sums are estimates of the integrals that mode `full` computes from its events. What two readings in a row cannot show
//! is a moment: a P between two goroutines, or a thread that has just been woken, is seen as often as it takes long.

mod background;
mod batch;
mod pace;
mod reader;
mod sampler;
mod shares;
mod span;
mod stall;
mod state;
mod threads;

pub use background::Sampling;
pub use sampler::CauseSampler;

#[cfg(test)]
mod tests;
