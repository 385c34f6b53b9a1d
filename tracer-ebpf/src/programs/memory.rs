//! Reads the target's memory. Each read costs the target some 70 ns, so there are as few as possible.

use aya_ebpf::helpers::bpf_probe_read_user;

/// Reads a word of the target at `base` + `offset`.
#[inline(always)]
pub fn word(base: u64, offset: u32) -> Option<u64> {
    read(base, offset)
}

/// Reads a plain value of the target at `base` + `offset`.
#[inline(always)]
pub fn read<T>(base: u64, offset: u32) -> Option<T> {
    let address = base.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper checks the address; T is an integer or an array of them in all callers.
    unsafe { bpf_probe_read_user(address) }.ok()
}
