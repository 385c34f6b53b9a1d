//! Typed access to the maps of `full`.

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray},
};
use tracer_ebpf::{
    full::{FullConfig, FullCounters, TaskConfig},
    stacks::{Stack, StackConfig, StackCounters},
};

use crate::bpf::maps::{Abi, context};
use crate::error::{Error, Result};

/// Writes the configuration of a target.
pub fn configure(ebpf: &mut Ebpf, slot: u32, config: FullConfig) -> Result<()> {
    Array::<&mut MapData, Abi<FullConfig>>::try_from(map(ebpf, "FULL_CONFIG")?)
        .map_err(context("open", "FULL_CONFIG"))?
        .set(slot, Abi(config), 0)
        .map_err(context("write", "FULL_CONFIG"))
}

/// Writes whose threads the tracepoints' programs follow, and where they find what they read.
pub fn describe_tasks(ebpf: &mut Ebpf, task: TaskConfig) -> Result<()> {
    Array::<&mut MapData, Abi<TaskConfig>>::try_from(map(ebpf, "TASK")?)
        .map_err(context("open", "TASK"))?
        .set(0, Abi(task), 0)
        .map_err(context("write", "TASK"))
}

/// Reads the counters of a target, summed over all CPUs.
pub fn counters(ebpf: &mut Ebpf, slot: u32) -> Result<FullCounters> {
    let table = PerCpuArray::<&mut MapData, Abi<FullCounters>>::try_from(map(ebpf, "FULL_COUNTERS")?)
        .map_err(context("open", "FULL_COUNTERS"))?;
    let per_cpu = table.get(&slot, 0).map_err(context("read", "FULL_COUNTERS"))?;
    Ok(per_cpu
        .iter()
        .fold(FullCounters::default(), |sum, cpu| sum.plus(&cpu.0)))
}

/// Writes the offsets by which a target's stacks are found.
pub fn describe_stacks(ebpf: &mut Ebpf, slot: u32, config: StackConfig) -> Result<()> {
    Array::<&mut MapData, Abi<StackConfig>>::try_from(map(ebpf, "STACK_CONFIG")?)
        .map_err(context("open", "STACK_CONFIG"))?
        .set(slot, Abi(config), 0)
        .map_err(context("write", "STACK_CONFIG"))
}

/// Removes all stacks.
pub fn clear_stacks(ebpf: &mut Ebpf) -> Result<()> {
    let mut table = HashMap::<&mut MapData, u64, Abi<Stack>>::try_from(map(ebpf, "STACKS")?)
        .map_err(context("open", "STACKS"))?;
    let keys: std::result::Result<Vec<u64>, MapError> = table.keys().collect();
    for key in keys.map_err(context("walk", "STACKS"))? {
        table.remove(&key).map_err(context("write", "STACKS"))?;
    }
    Ok(())
}

/// Reads the stack with this key, if there is one.
pub fn stack(ebpf: &mut Ebpf, key: u64) -> Result<Option<Stack>> {
    let table = HashMap::<&mut MapData, u64, Abi<Stack>>::try_from(map(ebpf, "STACKS")?)
        .map_err(context("open", "STACKS"))?;
    match table.get(&key, 0) {
        Ok(stack) => Ok(Some(stack.0)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(e) => Err(context("read", "STACKS")(e)),
    }
}

/// Reads the counters of a target's stacks, summed over all CPUs.
pub fn stack_counters(ebpf: &mut Ebpf, slot: u32) -> Result<StackCounters> {
    let table = PerCpuArray::<&mut MapData, Abi<StackCounters>>::try_from(map(ebpf, "STACK_COUNTERS")?)
        .map_err(context("open", "STACK_COUNTERS"))?;
    let per_cpu = table.get(&slot, 0).map_err(context("read", "STACK_COUNTERS"))?;
    Ok(per_cpu
        .iter()
        .fold(StackCounters::default(), |sum, cpu| sum.plus(&cpu.0)))
}

fn map<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut aya::maps::Map> {
    ebpf.map_mut(name)
        .ok_or_else(|| Error::failed(format!("the eBPF object of this build has no map `{name}`")))
}
