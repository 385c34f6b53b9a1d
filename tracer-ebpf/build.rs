//! Sets the architecture whose registers the programs read (`cfg(bpf_target_arch)`).
//!
//! aya-ebpf sets that cfg for itself only; a crate that reads `pt_regs` must set its own.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    aya_build::emit_bpf_target_arch_cfg()?;
    Ok(())
}
