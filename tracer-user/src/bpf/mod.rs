//! The kernel side: loads it, gives it its tables, attaches it, and takes it away.

pub mod attach;
pub mod calibrate;
mod events;
pub mod kernel;
pub(crate) mod linker;
pub(crate) mod maps;
pub mod multi;
mod raw;
pub(crate) mod ring;
mod shielded;

pub use self::{
    attach::{LinkKind, ProgramKind, Scope},
    calibrate::Cost,
    kernel::{Capacity, Kernel},
};
