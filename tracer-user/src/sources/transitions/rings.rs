//! Ring buffers of the kernel as the transitions that they hold.

use crate::{
    bpf::MappedRing,
    stream::{reorder::Ring, transition::Transition},
};

/// A ring buffer into which programs put transitions.
pub struct KernelRing(pub MappedRing);

impl Ring for KernelRing {
    fn take(&mut self) -> Option<Transition> {
        loop {
            let item = self.0.take()?;
            match read(&item) {
                Some(transition) => return Some(transition),
                None => log::warn!(
                    "an event of {} bytes from the kernel is not a transition",
                    item.len()
                ),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A transition as it lies in the ring; `None` if it is not one.
fn read(bytes: &[u8]) -> Option<Transition> {
    if bytes.len() != size_of::<Transition>() {
        return None;
    }
    // SAFETY: of the right length, and every bit pattern of that struct of integers is valid.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}
