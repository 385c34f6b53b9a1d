//! What the end-to-end tests share: Go workloads, oracles, and running `gmpscope` against them.
//!
//! Everything that a test needs comes from `GMPSCOPE_*` variables that `cargo xtask test` sets (docs/development.md
//! lists them). Where one is missing the test fails and names it; no test is skipped for that.

pub mod again;
pub mod agreement;
pub mod binary;
pub mod causes;
pub mod consistency;
pub mod crowd;
pub mod daemon;
pub mod environment;
pub mod estimate;
pub mod event;
pub mod exposition;
pub mod following;
pub mod goroutines;
pub mod histogram;
pub mod host;
pub mod http;
pub mod island;
pub mod kernel;
pub mod left_behind;
pub mod measured;
#[cfg(feature = "mounted")]
pub mod mounted;
pub mod oracle;
pub mod privilege;
pub mod profile;
pub mod prometheus;
pub mod replayed;
pub mod rules;
pub mod run;
pub mod scenario;
pub mod services;
pub mod start;
pub mod storm;
pub mod story;
pub mod surroundings;
pub mod system;
pub mod toolchain;
pub mod transitions;
pub mod unread;
pub mod variant;
pub mod workload;

pub use daemon::Daemon;
pub use environment::machine;
pub use event::Event;
pub use histogram::RuntimeHistogram;
pub use prometheus::Prometheus;
pub use run::{Attach, Outcome, Tracer};
pub use system::System;
pub use toolchain::Toolchain;
pub use variant::Variant;
pub use workload::Workload;
