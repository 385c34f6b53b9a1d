//! The kernel that we run on: its release, our capabilities, and the meaning of its errors.

pub mod privilege;
pub mod refusal;
pub mod release;
