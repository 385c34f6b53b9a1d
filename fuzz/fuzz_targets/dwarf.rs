//! Struct layouts from the DWARF of an ELF file from whomever.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_user::binary::layout;

fuzz_target!(|data: &[u8]| {
    let _ = layout::from_dwarf(data);
});
