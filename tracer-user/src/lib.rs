//! gmpscope's library. One folder per step of the data, in the order in which it flows:
//! [`binary`] → [`process`] → [`plan`] → [`sources`] → [`stream`] → [`model`] → [`latency`] → [`findings`] → [`document`] →
//! [`output`].
//! Only [`session`] acts backwards. See docs/architecture.md.

pub mod binary;
pub mod bpf;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod daemon;
pub mod doctor;
pub mod document;
pub mod duration;
pub mod error;
pub mod escape;
pub mod findings;
pub mod kernel;
pub mod latency;
pub mod model;
pub mod output;
pub mod plan;
pub mod process;
pub mod session;
pub mod sources;
pub mod stream;
pub mod writing;
