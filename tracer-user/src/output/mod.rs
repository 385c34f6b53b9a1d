//! What people and programs read: text and JSON.

pub mod capture;
