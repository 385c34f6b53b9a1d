//! `full --stacks`: walks the stack of a goroutine that blocks, by its frame pointers.
//!
//! The probed thread is on another stack: `park_m` runs on that of g0, where the kernel's own walk would start.
//! `mcall` has saved the goroutine's registers in `g.sched` before, and the chain of frames begins with them.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use tracer_ebpf::{
    MAX_TARGETS,
    stacks::{DEFAULT_STACKS, FIRST_KEY, Stack, StackConfig, StackCounters, end, key_of, key_with},
};

use super::{atomic::count, memory};

/// Each different stack, by its key.
#[map]
static STACKS: HashMap<u64, Stack> = HashMap::with_max_entries(DEFAULT_STACKS, 0);

/// By target index.
#[map]
static STACK_CONFIG: Array<StackConfig> = Array::with_max_entries(MAX_TARGETS, 0);

/// By target index.
#[map]
static STACK_COUNTERS: PerCpuArray<StackCounters> = PerCpuArray::with_max_entries(MAX_TARGETS, 0);

/// `BPF_NOEXIST`: what another CPU has inserted meanwhile is the same.
const NEW_ONLY: u64 = 1;
/// `-EEXIST`, as the helper returns it.
const EXISTS: i32 = -17;

/// The state of a walk.
struct Walk {
    stack: Stack,
    key: u64,
    /// The frame pointer of the next frame.
    frame: u64,
    /// No frame is at or above this address.
    top: u64,
}

impl Walk {
    /// Takes the next frame, which has this number. Returns whether there may be another.
    #[inline(always)]
    fn step(&mut self, number: usize) -> bool {
        let at = self.frame;
        if at == 0 {
            self.stack.end = end::WHOLE;
            return false;
        }
        // The two words of a frame: the caller's frame pointer, and the return address.
        let words = match self.top.wrapping_sub(at) {
            room if room < 16 || at > self.top || at & 7 != 0 => None,
            _ => memory::read::<[u64; 2]>(at, 0),
        };
        let Some([next, pc]) = words.filter(|[next, _]| *next == 0 || *next > at) else {
            self.stack.end = end::BROKEN;
            return false;
        };
        self.take(number, pc);
        self.frame = next;
        true
    }

    #[inline(always)]
    fn take(&mut self, number: usize, pc: u64) {
        if let Some(frame) = self.stack.frames.get_mut(number) {
            *frame = pc;
        }
        self.stack.depth = number as u32 + 1;
        self.key = key_with(self.key, pc);
    }
}

/// Takes frame by frame. Unrolled, since the verifier of Linux 5.10 does not let a program write to its stack at a
/// variable offset.
macro_rules! steps {
    ($walk:ident; $($number:literal)+) => {
        let _ = $($walk.step($number) &&)+ {
            $walk.stack.end = if $walk.frame == 0 { end::WHOLE } else { end::CUT };
            true
        };
    };
}

/// The key of the stack of a goroutine whose registers are saved; 0 if there is none.
#[inline(always)]
pub fn key_of_waiting(target: u32, g: u64) -> u64 {
    let (Some(config), Some(counters)) = (STACK_CONFIG.get(target), STACK_COUNTERS.get_ptr_mut(target))
    else {
        return 0;
    };
    if config.g_sched_bp == 0 {
        return 0;
    }
    count!(counters, walked);
    let (Some(pc), Some(frame), Some(top)) = (
        memory::word(g, config.g_sched_pc),
        memory::word(g, config.g_sched_bp),
        memory::word(g, config.g_stack_hi),
    ) else {
        count!(counters, unreadable);
        return 0;
    };
    let mut walk = Walk {
        stack: Stack::EMPTY,
        key: FIRST_KEY,
        frame,
        top,
    };
    walk.take(0, pc);
    steps!(walk; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    let key = key_of(walk.key, walk.stack.end);
    // SAFETY: entries are never removed, and never change.
    if unsafe { STACKS.get(&key) }.is_none()
        && let Err(refused) = STACKS.insert(&key, &walk.stack, NEW_ONLY)
        && refused != EXISTS
    {
        count!(counters, full);
        return 0;
    }
    key
}
