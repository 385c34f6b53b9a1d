//! The life of one target: the only room that acts backwards on the others.

pub mod options;
