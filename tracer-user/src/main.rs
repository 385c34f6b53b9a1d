//! The binary: see [`tracer_user`] for the library behind it.

fn main() {}
