//! What the kernel's counters say of waits that are in no histogram.

use tracer_ebpf::Counters;

use crate::stream::{Loss, LossCause};

/// Explains waits whose end was seen and whose begin was not stamped ([`Counters::unpaired`]).
#[derive(Clone, Copy, Debug)]
pub struct Unpaired {
    /// Waits whose begin found no room for a stamp, and was counted then, and whose end was not seen yet.
    refused: u64,
    /// How many more goroutines may be seen to run without having been seen to become runnable, before that is a loss:
    /// those that were runnable already when the probes went live.
    early: u64,
}

impl Unpaired {
    /// For a capture at whose begin `goroutines` may have been runnable; `u64::MAX` if their number is not known.
    pub fn new(goroutines: u64) -> Self {
        Self {
            refused: 0,
            early: goroutines,
        }
    }

    /// Takes new counts. Returns how many waits began before the capture, and how many at a place that is not probed.
    pub fn explain(&mut self, new: &Counters) -> (u64, u64) {
        self.refused = self.refused.saturating_add(new.stamps_full);
        let refused = new.unpaired.min(self.refused);
        self.refused -= refused;
        let others = new.unpaired - refused;
        let early = others.min(self.early);
        self.early -= early;
        (early, others - early)
    }
}

/// The losses in new counts. Of the unpaired waits, `early` began before the capture and `unseen` at a place that is not
/// probed; the others were counted when they began.
pub fn losses(new: &Counters, (early, unseen): (u64, u64)) -> Vec<Loss> {
    [
        (LossCause::Unpaired, early),
        (LossCause::Unseen, unseen),
        (LossCause::StampsFull, new.stamps_full),
        (LossCause::CreationSitesFull, new.creation_sites_full),
        (LossCause::HistogramsFull, new.histograms_full + new.samples_full),
        (LossCause::RingFull, new.ring_full),
        (LossCause::Unreadable, new.unreadable),
        (LossCause::Negative, new.negative + new.negative_samples),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(cause, count)| Loss { cause, count })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(unpaired: &mut Unpaired, stamps_full: u64, ends: u64) -> Vec<(LossCause, u64)> {
        let new = Counters {
            stamps_full,
            unpaired: ends,
            ..Counters::default()
        };
        let explained = unpaired.explain(&new);
        let losses = losses(&new, explained);
        losses.iter().map(|loss| (loss.cause, loss.count)).collect()
    }

    #[test]
    fn a_wait_that_found_no_room_is_lost_once() {
        let mut unpaired = Unpaired::new(3);
        assert_eq!(seen(&mut unpaired, 0, 2), [(LossCause::Unpaired, 2)]);
        // Ten begin and find no room, and four of them end.
        assert_eq!(seen(&mut unpaired, 10, 4), [(LossCause::StampsFull, 10)]);
        // The other six end, one that began before the capture, and two of whose begin nothing is known.
        assert_eq!(
            seen(&mut unpaired, 0, 9),
            [(LossCause::Unpaired, 1), (LossCause::Unseen, 2)]
        );
        assert_eq!(seen(&mut unpaired, 0, 1), [(LossCause::Unseen, 1)]);
    }

    #[test]
    fn nothing_is_unseen_where_the_number_of_goroutines_is_not_known() {
        let mut unpaired = Unpaired::new(u64::MAX);
        assert_eq!(seen(&mut unpaired, 0, 70_000), [(LossCause::Unpaired, 70_000)]);
    }
}
