//! Removing the probes of many targets at once: the kernel needs some 35 ms for a link, more for perf events.

use std::thread;

use super::probes::Probes;

/// Most threads that remove probes at once: the kernel lets them wait together.
const MOST_THREADS: usize = 16;

/// Removes probes on several threads, and waits until they are gone.
pub fn drop_in_parallel(mut probes: Vec<Probes>) {
    let each = probes.len().div_ceil(MOST_THREADS).max(1);
    thread::scope(|scope| {
        while !probes.is_empty() {
            let some = probes.split_off(probes.len().saturating_sub(each));
            // If no thread can be made, the probes are dropped here with the closure.
            let spawned = thread::Builder::new().spawn_scoped(scope, move || drop(some));
            if let Err(e) = spawned {
                log::warn!("no thread to detach in: {e}");
            }
        }
    });
}
