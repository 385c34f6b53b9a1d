//! The daemon's settings. Each has one dotted name, from which its flag, its environment variable and its TOML key
//! follow.
//!
//! ```text
//! layers (files, environment, flags) ──▶ document ──▶ table, rules: typed values ──▶ load: one Config, or all mistakes
//!                                                                                       ▲
//!                                                               watch ──▶ reloader ─────┘
//! ```

mod canonical;
mod document;
mod health;
mod layers;
mod load;
mod mistake;
mod origin;
mod pattern;
pub mod reference;
mod reload;
mod reloader;
pub mod rules;
mod settings;
mod share;
mod suggest;
pub mod table;
mod toml;
mod value;
mod watch;

use std::{ops::RangeInclusive, time::Duration};

pub use health::{Health, Key};
pub use layers::{FILE, FOLDER, Files, Layers};
pub use load::{Loaded, load};
pub use mistake::{Kind as MistakeKind, Mistake, describe};
pub use origin::{Origin, Position};
pub use reload::{Reload, Trigger};
pub use reloader::{Reloader, StartError};
pub use settings::*;
pub use toml::toml_value;

use crate::duration;

/// How long `exact` may run.
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

#[cfg(test)]
mod tests;
