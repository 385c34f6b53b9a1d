//! The daemon: finds every Go process of a host, watches each at the tier that its budget allows, and serves metrics.
//!
//! One loop on one thread (`run`) drives `host`, which must never wait: work that may take long is done on other
//! threads.
//!
//! ```text
//! discovery ──▶ targets (one each: tier, sources, what was counted) ──▶ view ──▶ metrics ──▶ http
//!     ▲                ▲
//!   config ────────────┘
//! ```

pub mod config;
pub mod discovery;
mod error_log;
pub mod governor;
mod host;
pub mod http;
mod job;
mod message;
pub mod metrics;
mod probing;
mod reader;
mod run;
mod starts;
mod systemd;
pub mod targets;
pub mod view;

pub use run::run;
