//! Typed access to the maps of `full`.

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray},
};
use tracer_ebpf::full::{FullConfig, FullCounters, TaskConfig};

use super::super::probes::maps::{Abi, context};
use crate::error::{Error, Result};

/// Configuration, by target index.
pub fn configure(ebpf: &mut Ebpf, slot: u32, config: FullConfig) -> Result<()> {
    Array::<&mut MapData, Abi<FullConfig>>::try_from(map(ebpf, "FULL_CONFIG")?)
        .map_err(context("open", "FULL_CONFIG"))?
        .set(slot, Abi(config), 0)
        .map_err(context("write", "FULL_CONFIG"))
}

/// Where the kernel keeps what the tracepoints' programs read.
pub fn describe_tasks(ebpf: &mut Ebpf, task: TaskConfig) -> Result<()> {
    Array::<&mut MapData, Abi<TaskConfig>>::try_from(map(ebpf, "TASK")?)
        .map_err(context("open", "TASK"))?
        .set(0, Abi(task), 0)
        .map_err(context("write", "TASK"))
}

/// The threads of this process are followed, for the target with this index.
pub fn follow(ebpf: &mut Ebpf, tgid: u32, slot: u32) -> Result<()> {
    HashMap::<&mut MapData, u32, u32>::try_from(map(ebpf, "FOLLOWED")?)
        .map_err(context("open", "FOLLOWED"))?
        .insert(tgid, slot, 0)
        .map_err(context("write", "FOLLOWED"))
}

/// Sum of the counters of one target over all CPUs.
pub fn counters(ebpf: &mut Ebpf, slot: u32) -> Result<FullCounters> {
    let table = PerCpuArray::<&mut MapData, Abi<FullCounters>>::try_from(map(ebpf, "FULL_COUNTERS")?)
        .map_err(context("open", "FULL_COUNTERS"))?;
    let per_cpu = table.get(&slot, 0).map_err(context("read", "FULL_COUNTERS"))?;
    Ok(per_cpu
        .iter()
        .fold(FullCounters::default(), |sum, cpu| sum.plus(&cpu.0)))
}

fn map<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut aya::maps::Map> {
    ebpf.map_mut(name)
        .ok_or_else(|| Error::failed(format!("the eBPF object of this build has no map `{name}`")))
}
