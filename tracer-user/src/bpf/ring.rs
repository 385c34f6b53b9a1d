//! Events as they lie in a ring buffer of the kernel side's.

use tracer_ebpf::{
    SlowWait,
    host::HostEvent,
    start::{CallEvent, StartEvent},
};

/// Structs of integers without padding, as the kernel side sends them. Those that share a ring differ in size.
pub trait Sent: Copy {}
impl Sent for SlowWait {}
impl Sent for StartEvent {}
impl Sent for CallEvent {}
impl Sent for HostEvent {}

/// An event as it lies in the ring; `None` if it is another.
pub fn read<T: Sent>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: of the right length, and every bit pattern of these structs of integers is valid.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}
