//! The daemon's settings: every one has one dotted name, from which its flag, its environment variable and its
//! TOML key follow.

mod settings;

pub use settings::*;
