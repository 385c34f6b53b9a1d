//! What the end-to-end tests share: Go workloads, oracles, and running `gmpscope` against them.
//!
//! Everything that a test needs comes from the environment that `cargo xtask test` sets up; nothing is
//! skipped where a part of it is missing, the test fails and says so:
//!
//! | variable | what |
//! |---|---|
//! | `GMPSCOPE_GO_ROOTS` | colon-separated `GOROOT`s |
//! | `GMPSCOPE_BIN` | the `gmpscope` binary |
//! | `GMPSCOPE_CACHE` | where built workloads are kept; default `~/.cache/gmpscope` |
//! | `GMPSCOPE_WORKLOADS` | workloads that were built elsewhere: nothing is built |
//! | `GMPSCOPE_PROMETHEUS` | folder of `prometheus` and `promtool` |
//! | `GMPSCOPE_DEB` | the Debian package of that binary |
//! | `GMPSCOPE_TESTS` | `full` for every Go version and build variant |

pub mod agreement;
pub mod binary;
pub mod crowd;
pub mod daemon;
pub mod environment;
pub mod event;
pub mod exposition;
pub mod goroutines;
pub mod histogram;
pub mod host;
pub mod http;
pub mod island;
pub mod kernel;
pub mod left_behind;
#[cfg(feature = "mounted")]
pub mod mounted;
pub mod oracle;
pub mod privilege;
pub mod profile;
pub mod prometheus;
pub mod run;
pub mod scenario;
pub mod start;
pub mod storm;
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
