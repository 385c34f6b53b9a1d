//! Every Go process of a host, day and night: finds them, reads them at the tier that their budget allows, and
//! shows metrics.
//!
//! ```text
//! discovery ──▶ targets (one each: tier, sources, what was counted) ──▶ view ──▶ metrics ──▶ http
//!     ▲                ▲
//!   config ────────────┘
//! ```

mod complaints;
pub mod config;
pub mod discovery;
pub mod governor;
mod host;
pub mod http;
pub mod metrics;
mod probing;
mod reader;
mod run;
mod starts;
mod systemd;
pub mod targets;
pub mod view;

pub use run::run;
