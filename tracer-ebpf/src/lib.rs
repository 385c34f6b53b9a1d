//! The ABI that the kernel side and the user side of gmpscope share: keys and values of the BPF maps, and the events
//! of the ring buffers ([`abi`]). The programs themselves are in the binary of this package, for the BPF target only.
#![no_std]

pub mod abi;

pub use abi::*;
