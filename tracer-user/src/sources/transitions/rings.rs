//! The kernel side's rings as the transitions that they hold.

use crate::{
    bpf::TransitionRing,
    stream::{reorder::Ring, transition::Transition},
};

/// A ring into which programs put transitions.
pub struct KernelRing(pub TransitionRing);

impl Ring for KernelRing {
    fn take(&mut self) -> Option<Transition> {
        let ring = match &mut self.0 {
            TransitionRing::Slots(ring) => return ring.take(),
            TransitionRing::Shared(ring) => ring,
        };
        loop {
            let item = ring.take()?;
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
        match &self.0 {
            TransitionRing::Slots(ring) => ring.is_empty(),
            TransitionRing::Shared(ring) => ring.is_empty(),
        }
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
