//! Loads the kernel side, fills its maps, attaches its programs, and removes them. The only room that knows aya.

pub mod attach;
pub mod calibrate;
pub mod capacity;
mod events;
pub mod kernel;
pub(crate) mod linker;
mod mapped_ring;
pub(crate) mod maps;
pub mod multi;
mod raw;
pub(crate) mod ring;
mod rings;
mod shielded;
mod slots;

pub use self::{
    attach::{LinkKind, ProgramKind, Scope},
    calibrate::Cost,
    capacity::Capacity,
    kernel::Kernel,
    rings::{TransitionRing, default_bytes as default_ring_bytes},
};
