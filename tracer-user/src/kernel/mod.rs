//! The kernel that we run on, and what it lets us do: its release, our capabilities, and what its refusals mean.

pub mod privilege;
pub mod refusal;
pub mod release;
