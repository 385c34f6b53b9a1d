//! Keys and values by goroutine: when it became runnable, and the `go` statement that created it.

/// Key of `STAMPS`: the address of a g in the low 48 bits, the target's index above. Addresses of user space have 47
/// bits (amd64, 4-level) or 48 (arm64); Go's heap is in the lower part with 5 levels, too.
pub const fn stamp_key(target: u32, g: u64) -> u64 {
    ((target as u64) << 48) | (g & 0xffff_ffff_ffff)
}

/// Value of `STAMPS`: when a goroutine became runnable.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// CLOCK_MONOTONIC; 0 if it is not runnable.
    pub at_ns: u64,
    /// An [`Origin`](super::Origin).
    pub origin: u32,
    /// 0: the goroutine keeps this entry for its later waits. 1: the entry is for one wait, and is removed at its end.
    pub once: u32,
}

const _: () = assert!(core::mem::size_of::<Stamp>() == 16);

/// Key of `SAMPLED_HISTOGRAMS`: `g.gopc`, the run-time return address in the function with the `go` statement, in the
/// low 48 bits, the target's index above. One word, since hashing it is part of the cost of a hit.
pub const fn creation_site_key(target: u32, gopc: u64) -> u64 {
    stamp_key(target, gopc)
}

/// (target, gopc) of a [`creation_site_key`].
pub const fn creation_site_of(key: u64) -> (u32, u64) {
    ((key >> 48) as u32, key & 0xffff_ffff_ffff)
}
