//! Who made a goroutine runnable: another goroutine, or something that is the root of a chain of wake-ups.
//!
//! The goroutine that is on a thread by chance when the network poller, a timer or sysmon makes another one runnable has
//! not woken it: those are roots.

use tracer_ebpf::Origin;

use super::causes::LongWaits;
use super::explained::{Waker, Who};
use super::goroutine::{Goroutine, Table};
use super::thread::Machines;
use super::woken::{NETPOLL, NOBODY, SCHEDULER, WITHOUT_P, WokenBy};

impl WokenBy {
    /// Who makes a goroutine runnable that becomes so in this way, by code that runs on this thread.
    #[inline]
    pub fn of(origin: u8, tid: u32, machines: &Machines, goroutines: &Table) -> Self {
        if origin == Origin::Netpoll as u8 {
            return Self::root(NETPOLL);
        }
        if origin == Origin::Syscall as u8
            || origin == Origin::Preempted as u8
            || origin == Origin::Yielded as u8
        {
            return Self::root(NOBODY);
        }
        let Some(machine) = machines.by_tid.get(&tid) else {
            return Self::root(NOBODY);
        };
        match machine
            .running
            .and_then(|slot| Some((slot, goroutines.get(slot)?.life)))
        {
            Some((slot, life)) => Self { slot, life },
            None if machine.p == 0 => Self::root(WITHOUT_P),
            None => Self::root(SCHEDULER),
        }
    }
}

/// The chain of who woke a goroutine: its waker, that one's waker, at most three. It ends where a waker has been woken again
/// since, so that it is not known who had woken it then.
pub fn chain(goroutine: &Goroutine, goroutines: &Table) -> Vec<Waker> {
    let mut wakers = Vec::new();
    let (mut by, mut before_ns) = (goroutine.woken_by, goroutine.woken_ns);
    while wakers.len() < LongWaits::STEPS {
        match by.slot {
            NOBODY => break,
            NETPOLL => wakers.push(Waker::Netpoll),
            SCHEDULER => wakers.push(Waker::Scheduler),
            WITHOUT_P => wakers.push(Waker::WithoutP),
            slot => {
                let Some(waker) = goroutines.get(slot).filter(|waker| waker.life == by.life) else {
                    break;
                };
                wakers.push(Waker::Goroutine(Who {
                    goid: waker.goid,
                    gopc: waker.gopc,
                }));
                if waker.woken_ns == 0 || waker.woken_ns > before_ns {
                    break;
                }
                (by, before_ns) = (waker.woken_by, waker.woken_ns);
                continue;
            }
        }
        break;
    }
    wakers
}
