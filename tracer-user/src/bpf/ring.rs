//! Decodes events from the kernel side's ring buffers.

use tracer_ebpf::{
    SlowWait,
    host::HostEvent,
    start::{CallEvent, StartEvent},
};

/// A struct of integers without padding that the kernel side sends. Those that share a ring differ in size.
pub trait Sent: Copy {}
impl Sent for SlowWait {}
impl Sent for StartEvent {}
impl Sent for CallEvent {}
impl Sent for HostEvent {}

/// Decodes an event; `None` if it is of another type.
pub fn read<T: Sent>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: of the right length, and every bit pattern of these structs of integers is valid.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}
