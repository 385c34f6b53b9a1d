//! Counters of what happened in the kernel.

/// A struct of counters, and its arithmetic, field by field.
macro_rules! counters {
    (
        $(#[$of_struct:meta])*
        pub struct $name:ident {
            $($(#[$of_field:meta])* pub $field:ident: u64,)*
        }
    ) => {
        $(#[$of_struct])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$of_field])* pub $field: u64,)*
        }

        impl $name {
            /// Adds field by field.
            pub const fn plus(&self, other: &Self) -> Self {
                Self {
                    $($field: self.$field + other.$field,)*
                }
            }

            /// The difference to `other`, an earlier reading.
            pub const fn since(&self, other: &Self) -> Self {
                Self {
                    $($field: self.$field.wrapping_sub(other.$field),)*
                }
            }
        }
    };
}
pub(crate) use counters;

counters! {
    /// Counters of one target, per CPU. Every hit of a probe adds to exactly one of the fields that
    /// [`Counters::hits`] sums up, or to a histogram of `sampled`; the other fields count outcomes.
    pub struct Counters {
        /// Hits while the target was switched off.
        pub disabled: u64,
        /// Hits whose status change neither enters nor leaves Runnable, or `record` on another histogram.
        pub unrelated: u64,
        /// Hits of inlined compare-and-swaps that failed.
        pub failed_swaps: u64,
        /// →Runnable transitions seen.
        pub into_runnable: u64,
        /// Runnable→Running transitions seen.
        pub into_running: u64,
        /// Runnable→Running whose →Runnable was not stamped: it was before attaching, or there was no room.
        pub unpaired: u64,
        /// Runnable→ transitions to another status than Running (Go 1.22's `newcoro`): the wait is dropped.
        pub out_of_runnable: u64,
        /// →Runnable that found no room in `STAMPS`. The end of such a wait is among `unpaired`.
        pub stamps_full: u64,
        /// Waits that were added to [`OTHER_CREATION_SITES`](super::OTHER_CREATION_SITES).
        pub creation_sites_full: u64,
        /// Waits of `exact` that could not be added to any histogram.
        pub histograms_full: u64,
        /// Likewise for `sampled`.
        pub samples_full: u64,
        /// Slow waits that found no room in the ring buffer.
        pub ring_full: u64,
        /// Slow waits that were put into the ring buffer.
        pub ring_sent: u64,
        /// Ends of tracked waits whose goroutine could not be read from the target's memory.
        pub unreadable: u64,
        /// Waits of `exact` that ended before they began (clock or stamp trouble); not in any histogram.
        pub negative: u64,
        /// Likewise for `sampled`.
        pub negative_samples: u64,
        /// Hits of empty programs, while calibrating.
        pub empty: u64,
        /// Marks of starts that were sent.
        pub marks: u64,
        /// Marks of starts that found no room in the ring buffer.
        pub marks_lost: u64,
        /// Slow system calls of starts that found no room in the ring buffer.
        pub calls_lost: u64,
        /// Processes that found no room in the table of those that are followed.
        pub tree_full: u64,
    }
}

impl Counters {
    /// Number of times that a probe stopped a thread of the target while it was switched on. Hits of `sampled` that
    /// reached a histogram are counted there alone, and come on top.
    pub const fn hits(&self) -> u64 {
        self.unrelated
            + self.failed_swaps
            + self.into_runnable
            + self.into_running
            + self.out_of_runnable
            + self.unreadable
            + self.negative_samples
            + self.samples_full
            + self.empty
            + self.marks
            + self.marks_lost
    }
}
