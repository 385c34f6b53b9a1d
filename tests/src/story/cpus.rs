//! On which CPUs threads may run: sched_setaffinity(2).

use std::io;

use anyhow::{Context, Result, bail};

/// A set of CPUs, a bit for each, with room for as many as `cpu_set_t` of libc.
type Set = [u64; 16];

/// Bits of a word.
const WORD: usize = u64::BITS as usize;

/// Two CPUs that the calling thread may use.
///
/// # Errors
/// There is only one.
pub fn two() -> Result<(usize, usize)> {
    let set = of_this_thread()?;
    let allowed: Vec<usize> = (0..Set::default().len() * WORD)
        .filter(|cpu| set[cpu / WORD] & 1 << (cpu % WORD) != 0)
        .collect();
    match allowed.as_slice() {
        [first, second, ..] => Ok((*first, *second)),
        _ => bail!("this needs two CPUs, one of which is the server's alone"),
    }
}

/// Has a thread run on one CPU only; 0 is the calling one. Neither allocates nor locks: it may be called between fork
/// and exec.
pub fn confine(tid: u32, cpu: usize) -> io::Result<()> {
    let mut set = Set::default();
    let word = set.get_mut(cpu / WORD).ok_or(io::ErrorKind::InvalidInput)?;
    *word = 1 << (cpu % WORD);
    set_affinity(tid, &set)
}

/// The calling thread, and the processes that it starts, on one CPU until this is dropped, by that thread.
#[derive(Debug)]
pub struct Confined {
    before: Set,
}

impl Confined {
    /// Confines the calling thread.
    pub fn to(cpu: usize) -> Result<Self> {
        let before = of_this_thread()?;
        confine(0, cpu).with_context(|| format!("staying on CPU {cpu}"))?;
        Ok(Self { before })
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        _ = set_affinity(0, &self.before);
    }
}

fn of_this_thread() -> Result<Set> {
    let mut set = Set::default();
    // SAFETY: `set` is valid for the bytes that the kernel writes.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<Set>(), set.as_mut_ptr().cast()) };
    match result {
        0 => Ok(set),
        _ => Err(io::Error::last_os_error()).context("sched_getaffinity"),
    }
}

fn set_affinity(tid: u32, set: &Set) -> io::Result<()> {
    // SAFETY: `set` is valid for the bytes that the kernel reads.
    let result = unsafe { libc::sched_setaffinity(tid as i32, size_of::<Set>(), set.as_ptr().cast()) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_confined_until_it_is_not_any_more() {
        let before = of_this_thread().unwrap();
        let (first, second) = two().unwrap();
        for cpu in [first, second] {
            let confined = Confined::to(cpu).unwrap();
            assert!(two().is_err());
            drop(confined);
            assert_eq!(of_this_thread().unwrap(), before);
        }
        assert!(confine(0, usize::MAX).is_err());
    }
}
