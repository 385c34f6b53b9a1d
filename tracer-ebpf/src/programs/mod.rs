//! The programs that run in the kernel. Their entry points are in `main.rs`.

pub mod atomic;
pub mod calls;
pub mod cap;
pub mod clock;
pub mod exact;
pub mod lifecycle;
pub mod maps;
pub mod marks;
pub mod memory;
pub mod processes;
pub mod registers;
pub mod rings;
pub mod sampled;
pub mod site;
pub mod slow;
pub mod stack;
pub mod target;
pub mod threads;
pub mod transition;
pub mod tree;
pub mod walk;
