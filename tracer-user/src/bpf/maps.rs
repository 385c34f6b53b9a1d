//! Typed access to the maps that the programs use.

use std::{
    collections::HashMap as HashMapOf,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues},
};
use tracer_ebpf::{
    Counters, Histogram, Origin, Site, SiteKey, Stamp, TargetConfig, TargetState,
    full::{FullConfig, FullCounters, TaskConfig},
    histogram::BUCKETS,
    host::{HostConfig, HostCounters},
    stacks::{Stack, StackConfig, StackCounters},
    start::{Call, Start, StartConfig},
};

use crate::error::{Error, Result};

/// A wrapper that makes a type of the ABI usable for aya's keys and values.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Abi<T>(pub T);

macro_rules! pod {
    ($($t:ty),+) => {
        // SAFETY: `repr(C)` structs of integers without padding, for which every bit pattern is valid.
        $(unsafe impl Pod for Abi<$t> {})+
    };
}
pod!(
    Call,
    Counters,
    FullConfig,
    FullCounters,
    Histogram,
    HostConfig,
    HostCounters,
    Site,
    SiteKey,
    Stack,
    StackConfig,
    StackCounters,
    Stamp,
    Start,
    StartConfig,
    TargetConfig,
    TargetState,
    TaskConfig
);

/// Descriptors of all maps by name, for programs that are not loaded by aya.
pub fn descriptors(ebpf: &Ebpf) -> io::Result<HashMapOf<String, OwnedFd>> {
    ebpf.maps()
        .filter_map(|(name, map)| data_of(map).map(|data| (name, data.fd().as_fd())))
        .map(|(name, fd)| Ok((name.to_owned(), fd.try_clone_to_owned()?)))
        .collect()
}

fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

fn missing(name: &str) -> Error {
    Error::failed(format!(
        "the eBPF object of this build has no map `{name}`: it is not the one it was built with"
    ))
}

fn failed(what: &str, name: &str, e: &MapError) -> Error {
    Error::failed(format!("could not {what} the BPF map `{name}`: {e}"))
}

macro_rules! typed {
    ($(#[$doc:meta])* $fn:ident, $kind:ident<$($t:ty),+>, $name:literal) => {
        $(#[$doc])*
        pub fn $fn(ebpf: &mut Ebpf) -> Result<$kind<&mut MapData, $($t),+>> {
            let map = ebpf.map_mut($name).ok_or_else(|| missing($name))?;
            $kind::try_from(map).map_err(|e| failed("open", $name, &e))
        }
    };
}

typed!(
    /// Configuration, by target index.
    targets, Array<Abi<TargetConfig>>, "TARGETS");
typed!(
    /// State that all CPUs share, by target index.
    states, Array<Abi<TargetState>>, "STATES");
typed!(
    /// Index of a target, by its process.
    slots_by_pid, HashMap<u32, u32>, "SLOTS_BY_PID");
typed!(
    /// Sites, by cookie.
    sites, Array<Abi<Site>>, "SITES");
typed!(
    /// Sites, by process and address.
    sites_by_ip, HashMap<Abi<SiteKey>, Abi<Site>>, "SITES_BY_IP");
typed!(
    /// Counters, by target index.
    counters, PerCpuArray<Abi<Counters>>, "COUNTERS");
typed!(
    /// When goroutines became runnable, by target and g.
    stamps, HashMap<u64, Abi<Stamp>>, "STAMPS");
typed!(
    /// Histograms of `exact`, by target index and origin.
    exact_histograms, PerCpuArray<Abi<Histogram>>, "EXACT_HISTOGRAMS");
typed!(
    /// Histograms of `sampled`, by creation site.
    sampled_histograms, HashMap<u64, Abi<Histogram>>, "SAMPLED_HISTOGRAMS");
typed!(
    /// The one configuration of a capture of starts.
    start_config, Array<Abi<StartConfig>>, "START_CONFIG");
typed!(
    /// Processes whose `execve` is followed.
    held, HashMap<u32, u32>, "HELD");
typed!(
    /// Processes of the trees that are followed.
    tree, HashMap<u32, u32>, "TREE");
typed!(
    /// Link-time addresses of ELF entries, by binary.
    entries, Array<u64>, "ENTRIES");
typed!(
    /// Processes on their way to `main.main`, by tgid.
    starts, HashMap<u32, Abi<Start>>, "STARTS");
typed!(
    /// The configuration of the programs that report processes.
    host_config, Array<Abi<HostConfig>>, "HOST_CONFIG");
typed!(
    /// Counters of reports of processes that did not fit.
    host_counters, Array<Abi<HostCounters>>, "HOST_COUNTERS");
typed!(
    /// System calls that have not returned, by thread.
    calls, HashMap<u32, Abi<Call>>, "CALLS");
typed!(
    /// What to send of a system call, by its number.
    call_kinds, HashMap<u32, u32>, "CALL_KINDS");

/// Opens a hash map by a descriptor.
///
/// # Errors
/// The descriptor is not one of a hash map.
pub fn hash<K: Pod, V: Pod>(fd: OwnedFd, name: &'static str) -> Result<HashMap<MapData, K, V>> {
    let data = MapData::from_fd(fd).map_err(context("open", name))?;
    let map = Map::from_map_data(data).map_err(context("open", name))?;
    HashMap::try_from(map).map_err(context("open", name))
}

/// Makes the error of a failed operation on a map.
pub fn context(what: &'static str, name: &'static str) -> impl Fn(MapError) -> Error {
    move |e| failed(what, name, &e)
}

/// An empty histogram.
pub const EMPTY_HISTOGRAM: Abi<Histogram> = Abi(Histogram {
    counts: [0; BUCKETS],
    sum_ns: 0,
    max_ns: 0,
    min_ns_inverted: 0,
});

/// The same value for every CPU.
fn on_every_cpu<T: Pod>(value: T, name: &'static str) -> Result<PerCpuValues<T>> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(what, e)| Error::failed(format!("the number of CPUs cannot be read ({what}): {e}")))?;
    PerCpuValues::try_from(vec![value; cpus])
        .map_err(|e| Error::failed(format!("could not write the BPF map `{name}`: {e}")))
}

/// Writes the configuration of a target.
pub fn configure_target(ebpf: &mut Ebpf, target: u32, config: TargetConfig) -> Result<()> {
    targets(ebpf)?
        .set(target, Abi(config), 0)
        .map_err(context("write", "TARGETS"))
}

/// Writes the state of a target, whose programs must not run meanwhile.
pub fn set_state(ebpf: &mut Ebpf, target: u32, state: TargetState) -> Result<()> {
    states(ebpf)?
        .set(target, Abi(state), 0)
        .map_err(context("write", "STATES"))
}

/// Sets the counters of a target to zero.
pub fn clear_counters(ebpf: &mut Ebpf, target: u32) -> Result<()> {
    let zero = on_every_cpu(Abi(Counters::default()), "COUNTERS")?;
    counters(ebpf)?
        .set(target, zero, 0)
        .map_err(context("write", "COUNTERS"))
}

/// Empties the histograms of `exact` of a target.
pub fn clear_exact(ebpf: &mut Ebpf, target: u32) -> Result<()> {
    let mut table = exact_histograms(ebpf)?;
    for origin in Origin::ALL {
        let empty = on_every_cpu(EMPTY_HISTOGRAM, "EXACT_HISTOGRAMS")?;
        table
            .set(target * Origin::COUNT + origin as u32, empty, 0)
            .map_err(context("write", "EXACT_HISTOGRAMS"))?;
    }
    Ok(())
}

/// Sum of the counters of one target over all CPUs.
pub fn read_counters(ebpf: &mut Ebpf, target: u32) -> Result<Counters> {
    let per_cpu = counters(ebpf)?
        .get(&target, 0)
        .map_err(context("read", "COUNTERS"))?;
    Ok(per_cpu
        .iter()
        .fold(Counters::default(), |sum, cpu| sum.plus(&cpu.0)))
}
