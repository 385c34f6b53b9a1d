//! On which CPUs threads may run: sched_setaffinity(2).

use std::io;

use anyhow::{Context, Result, bail, ensure};

use super::checked;

/// A set of CPUs, a bit for each, with room for as many as `cpu_set_t` of libc.
type Set = [u64; 16];

/// Bits of a word.
const WORD: usize = u64::BITS as usize;

/// The CPUs that a process may use, of those that we may use ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpus {
    /// All of them.
    Any,
    /// The first one.
    First,
    /// The last one.
    Last,
}

impl Cpus {
    /// The one CPU, where it is one.
    ///
    /// # Errors
    /// We have fewer than two CPUs.
    pub fn single(self) -> Result<Option<usize>> {
        let allowed = allowed()?;
        ensure!(
            allowed.len() >= 2,
            "two CPUs are needed, of which one is for gmpscope; these can be used: {allowed:?}"
        );
        Ok(match self {
            Self::Any => None,
            Self::First => allowed.first().copied(),
            Self::Last => allowed.last().copied(),
        })
    }
}

/// Two CPUs that the calling thread may use.
///
/// # Errors
/// There is only one.
pub fn two() -> Result<(usize, usize)> {
    match allowed()?.as_slice() {
        [first, second, ..] => Ok((*first, *second)),
        allowed => bail!("two CPUs are needed; these can be used: {allowed:?}"),
    }
}

/// The numbers of the CPUs that the calling thread may use, ascending.
fn allowed() -> Result<Vec<usize>> {
    let set = of_this_thread()?;
    let is_allowed = |cpu: &usize| set[cpu / WORD] & 1 << (cpu % WORD) != 0;
    Ok((0..set.len() * WORD).filter(is_allowed).collect())
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
    checked(unsafe { libc::sched_getaffinity(0, size_of::<Set>(), set.as_mut_ptr().cast()) })
        .context("reading which CPUs we may use")?;
    Ok(set)
}

fn set_affinity(tid: u32, set: &Set) -> io::Result<()> {
    // SAFETY: `set` is valid for the bytes that the kernel reads.
    checked(unsafe { libc::sched_setaffinity(tid as i32, size_of::<Set>(), set.as_ptr().cast()) })
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
            assert!(Cpus::First.single().is_err());
            drop(confined);
            assert_eq!(of_this_thread().unwrap(), before);
        }
        assert!(confine(0, usize::MAX).is_err());
    }

    #[test]
    fn a_single_cpu_is_one_that_we_may_use() {
        let allowed = allowed().unwrap();
        assert_eq!(Cpus::Any.single().unwrap(), None);
        assert_eq!(Cpus::First.single().unwrap(), allowed.first().copied());
        assert_eq!(Cpus::Last.single().unwrap(), allowed.last().copied());
    }
}
