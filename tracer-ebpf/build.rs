//! Tells this crate which architecture's registers the programs read (`cfg(bpf_target_arch)`).
//!
//! aya-ebpf sets that cfg for itself only; a crate that looks at `pt_regs` has to ask for its own.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    aya_build::emit_bpf_target_arch_cfg()?;
    Ok(())
}
