//! Stacks of goroutines that block: numbers replace the kernel's keys, and each stack is reported once, before the first
//! transition that names it.

use std::collections::HashMap;

use aya::Ebpf;
use tracer_ebpf::stacks::{Stack, StackConfig, StackCounters};

use super::tables;
use crate::{
    error::Result,
    stream::transition::{StackSeen, StacksSeen, Transition, What, status},
};

/// How stacks are to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StacksWanted {
    /// Most different stacks that are kept.
    pub most: u32,
    /// Offsets of a goroutine's saved registers.
    pub config: StackConfig,
}

/// The stacks that were reported.
#[derive(Debug, Default)]
pub struct Stacks {
    /// Numbers by the kernel's key.
    ids: HashMap<u64, u32>,
    counted: StackCounters,
}

impl Stacks {
    /// Replaces the keys in `transitions` by numbers, 0 where there is no stack. Returns the stacks that are new.
    ///
    /// # Errors
    /// The kernel's table cannot be read.
    pub fn number(&mut self, ebpf: &mut Ebpf, transitions: &mut [Transition]) -> Result<Vec<StackSeen>> {
        let mut new = Vec::new();
        let wait = (status::RUNNING, status::WAITING);
        let blocked = transitions.iter_mut().filter(|transition| {
            transition.what == What::Goroutine as u8
                && transition.statuses() == wait
                && transition.detail != 0
        });
        for transition in blocked {
            let key = transition.detail;
            let id = match self.ids.get(&key) {
                Some(id) => *id,
                None => match tables::stack(ebpf, key)? {
                    Some(stack) => {
                        let id = self.ids.len() as u32 + 1;
                        self.ids.insert(key, id);
                        new.push(seen(id, &stack));
                        id
                    }
                    None => {
                        log::warn!("the kernel's table has no stack {key:#x}");
                        0
                    }
                },
            };
            transition.detail = u64::from(id);
        }
        Ok(new)
    }

    /// Reads what the kernel side has counted of the target in `slot` since the last call.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn count(&mut self, ebpf: &mut Ebpf, slot: u32) -> Result<StackCounters> {
        let counters = tables::stack_counters(ebpf, slot)?;
        let new = counters.since(&self.counted);
        self.counted = counters;
        Ok(new)
    }
}

fn seen(id: u32, stack: &Stack) -> StackSeen {
    let depth = stack.depth as usize;
    StackSeen {
        id,
        pcs: stack.frames.iter().copied().take(depth).collect(),
        end: stack.end,
    }
}

/// The report of new stacks and of `walked` ones, unless there are neither.
pub fn report(new: Vec<StackSeen>, walked: u64) -> Option<StacksSeen> {
    (walked > 0 || !new.is_empty()).then_some(StacksSeen { new, walked })
}
