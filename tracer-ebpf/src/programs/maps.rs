//! The maps. Their sizes here are for all targets of a host; the user side makes them smaller for fewer targets.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_ebpf::{
    Counters, DEFAULT_STAMPS, Histogram, MAX_CREATION_SITES, MAX_SITES, MAX_TARGETS, Origin, RING_BYTES,
    Site, SiteKey, Stamp, TargetConfig, TargetState,
    host::{HOST_RING_BYTES, HostConfig, HostCounters},
    start::{Call, MAX_BINARIES, MAX_CALL_KINDS, MAX_CALLS, MAX_STARTS, MAX_TREE, Start, StartConfig},
};

/// By target index.
#[map]
pub static TARGETS: Array<TargetConfig> = Array::with_max_entries(MAX_TARGETS, 0);

/// By target index: written at hits, and therefore separate from what is only read.
#[map]
pub static STATES: Array<TargetState> = Array::with_max_entries(MAX_TARGETS, 0);

/// Index of a target, by its PID in gmpscope's PID namespace.
#[map]
pub static SLOTS_BY_PID: HashMap<u32, u32> = HashMap::with_max_entries(MAX_TARGETS, 0);

/// By attach cookie.
#[map]
pub static SITES: Array<Site> = Array::with_max_entries(MAX_SITES, 0);

/// By process and address, on kernels without cookies.
#[map]
pub static SITES_BY_IP: HashMap<SiteKey, Site> = HashMap::with_max_entries(MAX_SITES, 0);

/// By target index.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(MAX_TARGETS, 0);

/// When each goroutine became runnable, by `stamp_key`. Preallocated. Half of the entries are given to the goroutines
/// that come first, each of which keeps its own: it is changed in place, which costs a quarter of inserting and removing
/// one. The g of a goroutine that has ended is used again for another, with its entry. All other goroutines have an entry
/// only while they are runnable, so that the table does not fill up, however many there are over time.
#[map]
pub static STAMPS: HashMap<u64, Stamp> = HashMap::with_max_entries(DEFAULT_STAMPS, 0);

/// By target index × origins + origin. Only for the first targets, since it has a histogram for each CPU.
#[map]
pub static EXACT_HISTOGRAMS: PerCpuArray<Histogram> =
    PerCpuArray::with_max_entries(MAX_TARGETS * Origin::COUNT, 0);

/// By `creation_site_key`. Shared by all CPUs: per CPU it would take hundreds of megabytes on a large machine.
#[map]
pub static SAMPLED_HISTOGRAMS: HashMap<u64, Histogram> = HashMap::with_max_entries(MAX_CREATION_SITES, 0);

/// An empty histogram for insertions, which is too large for the stack.
#[map]
pub static EMPTY_HISTOGRAM: Array<Histogram> = Array::with_max_entries(1, 0);

/// Slow waits, and events of starts.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Configuration of a capture of starts.
#[map]
pub static START_CONFIG: Array<StartConfig> = Array::with_max_entries(1, 0);

/// Processes whose `execve` is to be followed, by their PID in gmpscope's PID namespace (or for those of a tree that
/// have none there, in the initial one). Value: the number of the binary that they are about to run, or one of
/// `start::binary`.
#[map]
pub static HELD: HashMap<u32, u32> = HashMap::with_max_entries(MAX_TREE, 0);

/// Processes of the followed trees, by tgid. The value has no meaning.
#[map]
pub static TREE: HashMap<u32, u32> = HashMap::with_max_entries(MAX_TREE, 0);

/// Link-time address of the ELF entry, by binary of a tree, from which programs that know sites by their address
/// compute the load bias of a process.
#[map]
pub static ENTRIES: Array<u64> = Array::with_max_entries(MAX_BINARIES, 0);

/// Processes on their way to `main.main`, by tgid.
#[map]
pub static STARTS: LruHashMap<u32, Start> = LruHashMap::with_max_entries(MAX_STARTS, 0);

/// System calls that have not returned, by thread.
#[map]
pub static CALLS: LruHashMap<u32, Call> = LruHashMap::with_max_entries(MAX_CALLS, 0);

/// The kind of a system call, by its number; calls that are not in it are always fast.
#[map]
pub static CALL_KINDS: HashMap<u32, u32> = HashMap::with_max_entries(MAX_CALL_KINDS, 0);

/// Configuration of the programs that report processes.
#[map]
pub static HOST_CONFIG: Array<HostConfig> = Array::with_max_entries(1, 0);

/// Events of processes that start and exit, and of targets that were switched off.
#[map]
pub static HOST_EVENTS: RingBuf = RingBuf::with_byte_size(HOST_RING_BYTES, 0);

/// Counters of events that did not fit.
#[map]
pub static HOST_COUNTERS: Array<HostCounters> = Array::with_max_entries(1, 0);
